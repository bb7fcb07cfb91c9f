/* What calls from outside may claim. Looked at once a call, before anything is reserved by it: whatever passes is laid out
   in fewer than 2^62 bytes, and is read and written within what the caller says there is. */

enum { DONE = 0, NO_MEMORY = 1, REFUSED = 2 }; /* what a call answers; library.py knows them */
enum { LARGEST = 1 << 24 };                    /* width, table or window, as in encoder.py */

static const int64_t MOST_ROWS = (int64_t)1 << 32; /* of all windows of a call */

static int is_size(int64_t number, int64_t multiple)
{
    return number > 0 && number <= LARGEST && number % multiple == 0;
}

/* Blocks that fill registers. */
static int is_block(int64_t width, int64_t inner, int64_t heads)
{
    return is_size(width, PANEL) && is_size(inner, PANEL) && is_size(heads, 1) && width % heads == 0
           && width / heads % LANES == 0;
}

/* The number of rows of windows of these lengths, or -1 where one is no length. */
static int64_t rows_of(const int64_t *lengths, int64_t windows)
{
    int64_t rows = 0;
    if (windows < 0 || windows > MOST_ROWS || (windows && !lengths))
        return -1;
    for (int64_t window = 0; window < windows; window++) {
        if (!is_size(lengths[window], 1) || (rows += lengths[window]) > MOST_ROWS)
            return -1;
    }
    return rows;
}
