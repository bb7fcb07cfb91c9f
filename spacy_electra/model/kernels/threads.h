/* Threads that work together for one call. They live no longer, so that processes may fork between two calls. */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_THREADS = 256, ALIGNMENT = 64 }; /* of a call; bytes */

typedef struct Team Team;
typedef void (*Work)(void *task, Team *team, int64_t member);

struct Team {
    Work work;
    void *task;
    int64_t size;
    pthread_mutex_t gate; /* shut until the size is known */
    pthread_barrier_t meeting;
};

typedef struct {
    Team *team;
    int64_t number;
} Member;

/* Things `begin` to `end`, the last not among them. */
typedef struct {
    int64_t begin;
    int64_t end;
} Range;

INLINE int64_t most(int64_t one, int64_t other)
{
    return one > other ? one : other;
}

INLINE int64_t least(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

INLINE int64_t round_up(int64_t number, int64_t multiple)
{
    return (number + multiple - 1) / multiple * multiple;
}

/* The part of a member in `count` things, of which `grain` stay together. */
static Range share_of(int64_t count, int64_t grain, const Team *team, int64_t member)
{
    int64_t grains = (count + grain - 1) / grain;
    Range range = {grains * member / team->size * grain, grains * (member + 1) / team->size * grain};
    range.begin = least(range.begin, count);
    range.end = least(range.end, count);
    return range;
}

/* Wait for all members. */
static void meet(Team *team)
{
    if (team->size > 1)
        pthread_barrier_wait(&team->meeting);
}

static void *join(void *argument)
{
    Member *member = argument;
    pthread_mutex_lock(&member->team->gate);
    pthread_mutex_unlock(&member->team->gate);
    member->team->work(member->team->task, member->team, member->number);
    return NULL;
}

/* Do a task with as many of `threads` as the system gives, this one included. */
static void work_together(Work work, void *task, int64_t threads)
{
    Team team = {.work = work, .task = task};
    Member members[MOST_THREADS];
    pthread_t others[MOST_THREADS];
    int64_t started = 1;
    for (int64_t number = 0; number < threads; number++)
        members[number] = (Member){&team, number};
    pthread_mutex_init(&team.gate, NULL);
    pthread_mutex_lock(&team.gate);
    while (started < threads && !pthread_create(&others[started], NULL, join, &members[started]))
        started++;
    team.size = started;
    pthread_barrier_init(&team.meeting, NULL, (unsigned)started);
    pthread_mutex_unlock(&team.gate);
    join(&members[0]);
    for (int64_t number = 1; number < started; number++)
        pthread_join(others[number], NULL);
    pthread_barrier_destroy(&team.meeting);
    pthread_mutex_destroy(&team.gate);
}

/* The next `bytes` of a piece of memory, or how many were asked for so far where it begins at 0. */
static void *take(char **memory, int64_t bytes)
{
    void *here = *memory;
    *memory += round_up(bytes, ALIGNMENT);
    return here;
}
