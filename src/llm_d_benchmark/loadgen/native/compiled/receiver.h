/* What the receiver keeps of a response, and what the decoder finds in it. library.py mirrors Look and Found. */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t end; /* bytes of the response up to and with this read */
    int64_t at;   /* when the last of them came, monotonic ns */
} Read;

typedef struct {
    atomic_int owners; /* the connection and Python; the last one frees it */
    int64_t begun;     /* nothing of it can have come before */
    char *data;        /* as it came: head and body */
    size_t size, room;
    Read *reads;
    size_t count, places;
    int64_t *arrivals; /* made by lc_decode */
} Response;

typedef struct {
    uint64_t size, reads;
    int64_t at, ended; /* of the last read, of the end of the connection; 0: there was none */
    int32_t state;     /* open, closed in order, reset */
} Look;

typedef struct {
    uint64_t chunks;
    int64_t *arrivals;               /* of content chunks, ns */
    int64_t input, output, cached;   /* tokens, -1: not told */
    int32_t done;                    /* [DONE] was seen */
    char finish_reason[32];
} Found;

/* Who tries to do with fewer acknowledgements, and how it went; see acks.c. */
typedef struct {
    int state, strikes;
    uint64_t trial; /* the id of the connection that tries it, 0: none yet */
    unsigned seen;  /* its reads so far */
} Acks;

void spare_acks(Acks *a, int fd, uint64_t id, const Response *r);
void acks_gone(Acks *a, uint64_t id);
