/* The receiver: one thread that reads streamed responses and takes their times, and never waits for Python.

   HTTP stays with httptools: this side only keeps what it reads, and tells where a response may be over.

   Who owns what. From lc_open on a connection belongs to the thread: only the thread closes its descriptor and frees it,
   after lc_close. A connection's lock guards its response and state, the receiver's lock the queues between the threads;
   none is taken while another is held. A response grows only while it is attached to its connection. */
#define _GNU_SOURCE
#include "receiver.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { OPEN, CLOSED, RESET };
enum taken { NOTHING, SOME, FULL, END };
enum { FIRST_ROOM = 16384, LEAST_ROOM = 4096, FIRST_READS = 64, EVENTS = 256, LAGS = 4096 };
enum { WINDOW_NS = 1000000, MANY = 8, PAUSE_NS = 200000 }; /* so many events in a window are worth a pause after each */
enum { TURN_NS = 100000, LONG_AGO_NS = 1000000000 };

typedef struct Connection {
    uint64_t id;
    int fd, state;
    int last_chunk; /* the empty chunk that ends a body was seen */
    size_t head;    /* where the body begins, once it is known to be chunked */
    int64_t ended;
    pthread_mutex_t lock;
    Response *response; /* NULL while idle */
    struct Connection *next;
} Connection;

typedef struct {
    int epoll, wake, told, ticker;
    int64_t tick, due, to_monotonic;
    int stamped; /* the kernel says when bytes came */
    int busy;    /* there is much to read */
    int nice;
    Acks acks;
    atomic_int quit;
    pthread_t thread;
    pthread_mutex_t lock;
    Connection *closing;
    uint64_t *over; /* ids of connections to look at */
    size_t count, places;
    int64_t lags[LAGS];
    size_t lag_count;
} Receiver;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* What to add to the wall clock to get the monotonic one; taken again where the thread was interrupted meanwhile. */
static int64_t wall_to_monotonic(void) {
    struct timespec wall;
    int64_t before, after;
    int tries = 0;
    do {
        before = now();
        clock_gettime(CLOCK_REALTIME, &wall);
        after = now();
    } while (after - before > 2000 && ++tries < 10);
    return before + (after - before) / 2 - (wall.tv_sec * 1000000000ll + wall.tv_nsec);
}

static void ring(int fd) {
    uint64_t one = 1;
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

static uint64_t hear(int fd) {
    uint64_t count = 0;
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
    return count;
}

/* responses */

void lc_release(Response *r) {
    if (r && atomic_fetch_sub(&r->owners, 1) == 1) {
        free(r->data);
        free(r->reads);
        free(r->arrivals);
        free(r);
    }
}

/* The array with room for more; NULL, and it stays as it was, where there is no memory. */
static void *grown(void *array, size_t *places, size_t least, size_t each) {
    size_t more = *places ? *places * 2 : least;
    void *moved = realloc(array, more * each);
    if (moved) *places = more;
    return moved;
}

/* Room for another read; 0 where there is no memory. */
static int make_room(Response *r) {
    if (r->room - r->size < LEAST_ROOM) {
        char *data = grown(r->data, &r->room, FIRST_ROOM, 1);
        if (!data) return 0;
        r->data = data;
    }
    if (r->count == r->places) {
        Read *reads = grown(r->reads, &r->places, FIRST_READS, sizeof *reads);
        if (!reads) return 0;
        r->reads = reads;
    }
    return 1;
}

/* Whether what has arrived may be a whole response: Python decides. A chunked one, once its head was seen, can only end
   with its empty chunk, or where trailers follow that, with an empty line; of any other every read is told. */
static int may_be_over(Connection *c, size_t before) {
    Response *r = c->response;
    if (!c->head) {
        char *end = memmem(r->data, r->size, "\r\n\r\n", 4);
        if (!end || r->size < 12 || memcmp(r->data, "HTTP/1.1 200", 12)) return 1;
        *end = 0; /* for the search of the head as a string, which may stop early at a zero of the server's own */
        char *field = strcasestr(r->data, "\r\ntransfer-encoding:");
        char *value = field ? strcasestr(field, "chunked") : NULL;
        int chunked = value && !memmem(field + 2, (size_t)(value - field), "\r\n", 2);
        *end = '\r';
        if (!chunked) return 1;
        c->head = (size_t)(end - r->data) + 4;
        before = c->head - 2;
    }
    if (r->size <= c->head) return 0;
    size_t from = before < c->head + 2 ? c->head - 2 : before - 4;
    if (memmem(r->data + from, r->size - from, "\r\n0\r\n", 5)) c->last_chunk = 1;
    return c->last_chunk || !memcmp(r->data + r->size - 4, "\r\n\r\n", 4);
}

/* connections, in the thread */

static void tell(Receiver *v, uint64_t id) {
    pthread_mutex_lock(&v->lock);
    int first = v->count == 0;
    uint64_t *over = v->count < v->places ? v->over : grown(v->over, &v->places, EVENTS, sizeof *over);
    if (over) {
        v->over = over;
        over[v->count++] = id;
    }
    pthread_mutex_unlock(&v->lock);
    if (first) ring(v->told);
}

static void ended(Connection *c, int state) {
    if (c->state == OPEN) {
        c->state = state;
        c->ended = now();
    }
}

/* When the kernel had the last byte of a read, or `at` where it does not say. It says so by the wall clock, which may
   have been set meanwhile: a time before the bytes before, or after now, or long ago, is none. */
static int64_t arrival(Receiver *v, const Response *r, struct msghdr *message, int64_t at) {
    struct cmsghdr *c = CMSG_FIRSTHDR(message);
    v->stamped = c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS;
    if (!v->stamped) return at;
    struct timespec t;
    memcpy(&t, CMSG_DATA(c), sizeof t);
    int64_t came = t.tv_sec * 1000000000ll + t.tv_nsec + v->to_monotonic;
    int64_t earliest = r->count ? r->reads[r->count - 1].at : r->begun;
    return came > at || came < earliest || came < at - LONG_AGO_NS ? at : came;
}

/* Read once into the response. */
static enum taken take(Receiver *v, Connection *c, int *over) {
    char stray[256], control[CMSG_SPACE(sizeof(struct timespec))];
    Response *r = c->response;
    if (r && !make_room(r)) return END;
    size_t room = r ? r->room - r->size : sizeof stray;
    struct iovec into = {r ? r->data + r->size : stray, room};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(c->fd, &message, MSG_DONTWAIT);
    if (n > 0 && r) {
        size_t before = r->size;
        r->size += (size_t)n;
        Read read = {r->size, arrival(v, r, &message, now())};
        r->reads[r->count++] = read;
        if (v->busy) spare_acks(&v->acks, c->fd, c->id, r);
        *over |= may_be_over(c, before);
        return (size_t)n == room ? FULL : SOME;
    }
    if (n < 0 && errno == EINTR) return FULL;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return NOTHING;
    ended(c, n < 0 ? RESET : CLOSED); /* an answer to nothing, while idle, is as good as an end */
    return END;
}

static void receive(Receiver *v, Connection *c, uint32_t events) {
    int over = 0, ending = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    enum taken taken;
    pthread_mutex_lock(&c->lock);
    do taken = take(v, c, &over); /* less than there was room for is all there is: a later byte is an event of its own */
    while (taken == FULL || (taken == SOME && ending));
    if (taken == END) ended(c, RESET);
    pthread_mutex_unlock(&c->lock);
    if (over || taken == END) tell(v, c->id);
}

static void close_asked(Receiver *v) {
    pthread_mutex_lock(&v->lock);
    Connection *c = v->closing;
    v->closing = NULL;
    pthread_mutex_unlock(&v->lock);
    while (c) {
        Connection *next = c->next;
        epoll_ctl(v->epoll, EPOLL_CTL_DEL, c->fd, NULL);
        close(c->fd);
        acks_gone(&v->acks, c->id);
        lc_release(c->response);
        pthread_mutex_destroy(&c->lock);
        free(c);
        c = next;
    }
}

/* How late this thread hears of what was due: the error of the times it takes. */
static void tick(Receiver *v) {
    int64_t missed = (int64_t)hear(v->ticker), late = now() - v->due;
    if (!missed) return;
    v->due += missed * v->tick;
    pthread_mutex_lock(&v->lock);
    if (v->lag_count < LAGS) v->lags[v->lag_count++] = late > 0 ? late : 0;
    pthread_mutex_unlock(&v->lock);
}

/* Ask the scheduler for short turns, soon after waking (Linux 6.12; others take no notice), for exact timers, and to
   come before Python where the core is full: what Python does late is told, what is read late is an error. Where the
   system does not let it, it comes beside Python. */
static void be_prompt(int nice) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } mine = {0};
    if (!syscall(SYS_sched_getattr, 0, &mine, sizeof mine, 0) && mine.policy == SCHED_OTHER) {
        mine.runtime = TURN_NS;
        syscall(SYS_sched_setattr, 0, &mine, 0);
    }
    prctl(PR_SET_TIMERSLACK, 1);
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice);
}

static void *run(void *given) {
    Receiver *v = given;
    be_prompt(v->nice);
    struct epoll_event events[EVENTS];
    int64_t window = 0;
    int count = 0;
    while (!atomic_load(&v->quit)) {
        int n = epoll_wait(v->epoll, events, EVENTS, -1);
        int64_t at = now();
        if (at - window >= WINDOW_NS) v->busy = count >= MANY, count = 0, window = at;
        count += n;
        v->to_monotonic = wall_to_monotonic();
        int closing = 0;
        for (int i = 0; i < n; i++) {
            void *what = events[i].data.ptr;
            if (what == &v->wake) closing = 1, hear(v->wake);
            else if (what == &v->ticker) tick(v);
            else receive(v, what, events[i].events);
        }
        if (closing) close_asked(v); /* after the batch, which may still name them */
        /* The kernel keeps the times, so where reads are many they can wait for each other, which is cheaper. */
        if (v->stamped && v->busy) nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
    }
    close_asked(v);
    return NULL;
}

/* from Python */

static int watch(Receiver *v, int fd, uint32_t events, void *what) {
    struct epoll_event e = {.events = events, .data.ptr = what};
    return epoll_ctl(v->epoll, EPOLL_CTL_ADD, fd, &e);
}

static void discard(Receiver *v) {
    int fds[] = {v->epoll, v->wake, v->told, v->ticker};
    for (int i = 0; i < 4; i++)
        if (fds[i] >= 0) close(fds[i]);
    pthread_mutex_destroy(&v->lock);
    free(v->over);
    free(v);
}

/* Start the thread; NULL where the system does not let it. It measures its lateness every `every` ns, and has the
   priority `nice` where it may. */
Receiver *lc_start(int64_t every, int nice) {
    Receiver *v = calloc(1, sizeof *v);
    if (!v) return NULL;
    pthread_mutex_init(&v->lock, NULL);
    v->epoll = epoll_create1(EPOLL_CLOEXEC);
    v->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    v->told = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    v->ticker = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    v->tick = every;
    v->nice = nice;
    v->due = now() + every;
    struct timespec first = {v->due / 1000000000, v->due % 1000000000}, gap = {every / 1000000000, every % 1000000000};
    struct itimerspec times = {.it_interval = gap, .it_value = first};
    sigset_t all, before;
    sigfillset(&all);
    int ok = v->epoll >= 0 && v->wake >= 0 && v->told >= 0 && v->ticker >= 0 &&
             !timerfd_settime(v->ticker, TFD_TIMER_ABSTIME, &times, NULL) && !watch(v, v->wake, EPOLLIN, &v->wake) &&
             !watch(v, v->ticker, EPOLLIN, &v->ticker);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for Python's thread */
    ok = ok && !pthread_create(&v->thread, NULL, run, v);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ok) return v;
    discard(v);
    return NULL;
}

/* End the thread, when every connection was given to lc_close. */
void lc_stop(Receiver *v) {
    atomic_store(&v->quit, 1);
    ring(v->wake);
    pthread_join(v->thread, NULL);
    discard(v);
}

/* The descriptor that is readable while lc_over has something to give. */
int lc_told(Receiver *v) { return v->told; }

/* The ids of up to `room` connections to look at; less than `room` of them means that was all. */
size_t lc_over(Receiver *v, uint64_t *ids, size_t room) {
    pthread_mutex_lock(&v->lock);
    size_t n = v->count < room ? v->count : room;
    for (size_t i = 0; i < n; i++) ids[i] = v->over[i];
    v->count -= n;
    for (size_t i = 0; i < v->count; i++) v->over[i] = v->over[i + n];
    if (!v->count) hear(v->told);
    pthread_mutex_unlock(&v->lock);
    return n;
}

/* How late the thread was, ns, since the last call: up to `room` values. */
size_t lc_lags(Receiver *v, int64_t *lags, size_t room) {
    pthread_mutex_lock(&v->lock);
    size_t n = v->lag_count < room ? v->lag_count : room;
    memcpy(lags, v->lags, n * sizeof *lags);
    v->lag_count = 0;
    pthread_mutex_unlock(&v->lock);
    return n;
}

/* Take over a connected socket that does not block; NULL where there is no room for it. */
Connection *lc_open(Receiver *v, int fd, uint64_t id) {
    Connection *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->fd = fd;
    c->id = id;
    pthread_mutex_init(&c->lock, NULL);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &(int){1}, sizeof(int));
    if (!watch(v, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, c)) return c;
    pthread_mutex_destroy(&c->lock);
    free(c);
    return NULL;
}

/* Let what is read from now on be `r`, or nothing where it is NULL. */
static void attach(Connection *c, Response *r) {
    pthread_mutex_lock(&c->lock);
    Response *before = c->response;
    c->response = r;
    c->head = 0;
    c->last_chunk = 0;
    pthread_mutex_unlock(&c->lock);
    lc_release(before);
}

/* The connection, and its descriptor, must not be used after this. */
void lc_close(Receiver *v, Connection *c) {
    attach(c, NULL);
    pthread_mutex_lock(&v->lock);
    c->next = v->closing;
    v->closing = c;
    pthread_mutex_unlock(&v->lock);
    ring(v->wake);
}

/* Expect a response, which is also the caller's, who gives it back by lc_release; NULL where there is no memory. */
Response *lc_begin(Connection *c) {
    Response *r = calloc(1, sizeof *r);
    if (r) {
        atomic_init(&r->owners, 2);
        r->begun = now();
        attach(c, r);
    }
    return r;
}

/* The response is over: nothing is added to it any more. */
void lc_finish(Connection *c) { attach(c, NULL); }

/* What is known of a connection, and its response's bytes from `from` on, as far as they fit into `room`. */
size_t lc_look(Connection *c, size_t from, char *into, size_t room, Look *look) {
    size_t n = 0;
    pthread_mutex_lock(&c->lock);
    Response *r = c->response;
    *look = (Look){.state = c->state, .ended = c->ended};
    if (r && r->count) {
        look->size = r->size;
        look->reads = r->count;
        look->at = r->reads[r->count - 1].at;
        n = r->size - from < room ? r->size - from : room;
        memcpy(into, r->data + from, n);
    }
    pthread_mutex_unlock(&c->lock);
    return n;
}

/* Reads of a response so far. `c` is its connection while it may still grow, else NULL; so in lc_copy. */
size_t lc_reads(Connection *c, Response *r) {
    if (c) pthread_mutex_lock(&c->lock);
    size_t count = r->count;
    if (c) pthread_mutex_unlock(&c->lock);
    return count;
}

/* Bytes and reads of a response, where they fit; their numbers in any case. */
void lc_copy(Connection *c, Response *r, char *data, Read *reads, size_t *size, size_t *count) {
    if (c) pthread_mutex_lock(&c->lock);
    if (data && r->count && r->size <= *size && r->count <= *count) {
        memcpy(data, r->data, r->size);
        memcpy(reads, r->reads, r->count * sizeof *reads);
    }
    *size = r->size;
    *count = r->count;
    if (c) pthread_mutex_unlock(&c->lock);
}
