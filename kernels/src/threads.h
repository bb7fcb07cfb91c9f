/* Threads that work on one call. They end with it, so that processes may fork between two calls. */

#ifndef SPACY_ELECTRA_THREADS_H
#define SPACY_ELECTRA_THREADS_H

#include <pthread.h>
#include <unistd.h>

#include "common.h"

enum { MAX_THREADS = 256 }; /* of a call */

#if defined(_POSIX_BARRIERS) && _POSIX_BARRIERS > 0
#define HAS_BARRIERS 1
#else /* macOS: one thread does all */
#define HAS_BARRIERS 0
#endif

typedef struct ThreadPool ThreadPool;
typedef void (*Work)(void *task, ThreadPool *pool, int64_t thread);

struct ThreadPool {
    Work work;
    void *task;
    int64_t size;
    pthread_mutex_t start; /* locked until the size is known */
#if HAS_BARRIERS
    pthread_barrier_t barrier;
#endif
};

typedef struct {
    ThreadPool *pool;
    int64_t number;
} Thread;

/* The part of a thread in `count` rows. */
INTERNAL Range thread_range(int64_t count, const ThreadPool *pool, int64_t thread)
{
    return (Range){count * thread / pool->size, count * (thread + 1) / pool->size};
}

/* Wait for all threads. */
INTERNAL void barrier_wait(ThreadPool *pool)
{
#if HAS_BARRIERS
    if (pool->size > 1)
        pthread_barrier_wait(&pool->barrier);
#else
    (void)pool;
#endif
}

#if HAS_BARRIERS
static void *thread_main(void *argument)
{
    Thread *thread = argument;
    pthread_mutex_lock(&thread->pool->start);
    pthread_mutex_unlock(&thread->pool->start);
    thread->pool->work(thread->pool->task, thread->pool, thread->number);
    return NULL;
}
#endif

/* Run a task on as many of `count` threads as the system gives, this one included. */
INTERNAL void run_threads(Work work, void *task, int64_t count)
{
    ThreadPool pool = {.work = work, .task = task, .size = 1};
#if HAS_BARRIERS
    Thread threads[MAX_THREADS];
    pthread_t handles[MAX_THREADS];
    int64_t started = 1;
    for (int64_t number = 0; number < count; number++)
        threads[number] = (Thread){&pool, number};
    pthread_mutex_init(&pool.start, NULL);
    pthread_mutex_lock(&pool.start);
    while (started < count && !pthread_create(&handles[started], NULL, thread_main, &threads[started]))
        started++;
    pool.size = started;
    pthread_barrier_init(&pool.barrier, NULL, (unsigned)started);
    pthread_mutex_unlock(&pool.start);
    thread_main(&threads[0]);
    for (int64_t number = 1; number < started; number++)
        pthread_join(handles[number], NULL);
    pthread_barrier_destroy(&pool.barrier);
    pthread_mutex_destroy(&pool.start);
#else
    (void)count;
    work(task, &pool, 0);
#endif
}

#endif
