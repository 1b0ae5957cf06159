/* Fewer acknowledgements, which cost a client of many streams as much as its reads do.

   A read that empties its socket acknowledges at once, unless the kernel takes the connection for a dialogue: then only
   every second segment is. It takes HTTP for one until an acknowledgement has waited 40 ms for something to go with,
   as after a head whose first token takes longer. So it is told again.

   A server that sends without TCP_NODELAY waits for the acknowledgement of each piece (Nagle's algorithm), and here for
   those 40 ms: a client that does this unasked would measure itself. So one connection tries it first, and where that
   was followed by such gaps three times, this receiver does not do it. */
#include "receiver.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum { TRYING, HOLDS, GIVEN_UP };
enum { AT = 2, AGAIN = 16, ENOUGH = 32, STRIKES = 3 }; /* reads of a response, of the trial; bad gaps */
enum { SUSPECT_NS = 30000000 };

static void acknowledge_at_once(int fd, int yes) { setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &yes, sizeof yes); }

/* Whether this connection is the one that tries it; judges how it goes. */
static int tries(Acks *a, int fd, uint64_t id, const Response *r) {
    if (!a->trial && r->count == AT) a->trial = id, a->seen = 0;
    if (a->trial != id) return 0;
    if (r->count <= AT) return 1; /* what comes after this read is the first to tell */
    if (r->reads[r->count - 1].at - r->reads[r->count - 2].at >= SUSPECT_NS) {
        acknowledge_at_once(fd, 1);
        a->trial = 0;
        if (++a->strikes == STRIKES) a->state = GIVEN_UP;
        return 0;
    }
    if (++a->seen == ENOUGH) a->state = HOLDS;
    return 1;
}

/* To be called after each read of a response, while there is much to read. */
void spare_acks(Acks *a, int fd, uint64_t id, const Response *r) {
    if (a->state == GIVEN_UP || (a->state == TRYING && !tries(a, fd, id, r))) return;
    if (r->count % AGAIN == AT) acknowledge_at_once(fd, 0);
}

/* The connection is no more. */
void acks_gone(Acks *a, uint64_t id) {
    if (a->trial == id) a->trial = 0;
}
