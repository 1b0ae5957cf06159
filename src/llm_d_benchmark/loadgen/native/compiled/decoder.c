/* Decodes the usual streamed response, and only that: HTTP chunks, events of one "data: " line with LF ends, one JSON
   object an event with at most one choice, plain text as content. Whatever is less usual, malformed or an error is left
   to decode.py: lc_decode then says so. What it does decode, it decodes as decode.py does; the tests compare the two. */
#define _GNU_SOURCE
#include "receiver.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH = 16, DIGITS = 15, COUNT_LIMIT = 0x7fffffff };

typedef struct {
    const unsigned char *at, *end;
} Text;

typedef struct {
    const unsigned char *from;
    size_t length;
    int plain; /* without escapes */
} Span;

typedef struct {
    int content;
    Span finish;
    int usage;
    int64_t input, output, cached;
    int texts; /* strings that may be content, and where the last of them stands, quotes included */
    const unsigned char *text, *after;
} Event;

/* JSON. Every function stands at a token, and says 0 where it meets what is left to decode.py. */

static int is(const Span *s, const char *word) {
    return s->length == strlen(word) && !memcmp(s->from, word, s->length);
}

static void blank(Text *t) {
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\t')) t->at++;
}

static int word(Text *t, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(t->end - t->at) < n || memcmp(t->at, word, n)) return 0;
    t->at += n;
    return 1;
}

static int sign(Text *t, int c) { return t->at < t->end && *t->at == c ? (t->at++, 1) : 0; }

static int between(const unsigned char *p, int low, int high) { return *p >= low && *p <= high; }

/* Length of the valid UTF-8 sequence of two and more bytes at p; 0: it is none. */
static size_t sequence(const unsigned char *p, const unsigned char *end) {
    size_t n = *p < 0xc2 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf5 ? 4 : 0;
    if (!n || (size_t)(end - p) < n) return 0;
    int low = *p == 0xe0 ? 0xa0 : *p == 0xf0 ? 0x90 : 0x80, high = *p == 0xed ? 0x9f : *p == 0xf4 ? 0x8f : 0xbf;
    if (!between(p + 1, low, high)) return 0;
    for (size_t i = 2; i < n; i++)
        if (!between(p + i, 0x80, 0xbf)) return 0;
    return n;
}

/* Length of the escape at p, which is a backslash; 0: none, or a surrogate. */
static size_t escape(const unsigned char *p, const unsigned char *end) {
    if (end - p < 2) return 0;
    if (p[1] && strchr("\"\\/bfnrt", p[1])) return 2;
    if (p[1] != 'u' || end - p < 6) return 0;
    for (int i = 2; i < 6; i++)
        if (!between(p + i, '0', '9') && !between(p + i, 'a', 'f') && !between(p + i, 'A', 'F')) return 0;
    return (p[2] | 0x20) == 'd' && p[3] > '7' ? 0 : 6;
}

static int string(Text *t, Span *s) {
    if (!sign(t, '"')) return 0;
    const unsigned char *p = t->at;
    *s = (Span){p, 0, 1};
    for (;;) {
        while (p < t->end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') p++;
        if (p >= t->end || *p == '"') break;
        size_t n = *p >= 0x80 ? sequence(p, t->end) : *p == '\\' ? escape(p, t->end) : 0;
        if (!n) return 0;
        s->plain &= *p != '\\';
        p += n;
    }
    s->length = (size_t)(p - s->from);
    t->at = p;
    return sign(t, '"');
}

static int digits(Text *t) {
    const unsigned char *from = t->at;
    while (t->at < t->end && between(t->at, '0', '9')) t->at++;
    return t->at > from && t->at - from <= DIGITS;
}

static int number(Text *t) {
    sign(t, '-');
    if (!sign(t, '0') && !digits(t)) return 0;
    if (sign(t, '.') && !digits(t)) return 0;
    if (!sign(t, 'e') && !sign(t, 'E')) return 1;
    if (!sign(t, '-')) sign(t, '+');
    const unsigned char *from = t->at;
    return digits(t) && t->at - from <= 2;
}

/* Step to the next member of an object: 1 with its key, t at its value; 0 at the end; -1 where it is left to decode.py.
   `first` is 1 before the first step, with t after the brace. */
static int member(Text *t, int *first, Span *key) {
    blank(t);
    if (sign(t, '}')) return 0;
    if (!*first && !sign(t, ',')) return -1;
    *first = 0;
    blank(t);
    if (!string(t, key) || !key->plain) return -1;
    blank(t);
    if (!sign(t, ':')) return -1;
    blank(t);
    return 1;
}

/* The same for an array, after its bracket. */
static int element(Text *t, int *first) {
    blank(t);
    if (sign(t, ']')) return 0;
    if (!*first && !sign(t, ',')) return -1;
    *first = 0;
    blank(t);
    return 1;
}

static int skip(Text *t, int depth) {
    Span s;
    int first = 1, step;
    if (t->at >= t->end || !depth) return 0;
    switch (*t->at) {
    case '"': return string(t, &s);
    case 'n': return word(t, "null");
    case 't': return word(t, "true");
    case 'f': return word(t, "false");
    case '{':
        t->at++;
        while ((step = member(t, &first, &s)) == 1)
            if (!skip(t, depth - 1)) return 0;
        return step == 0;
    case '[':
        t->at++;
        while ((step = element(t, &first)) == 1)
            if (!skip(t, depth - 1)) return 0;
        return step == 0;
    default: return number(t);
    }
}

/* A string or null, which is an empty one. */
static int text(Text *t, Span *s) {
    *s = (Span){NULL, 0, 1};
    return word(t, "null") || string(t, s);
}

static int content(Text *t, Event *e, int *some) {
    const unsigned char *from = t->at;
    Span value;
    if (!text(t, &value)) return 0;
    if (value.from) e->texts++, e->text = from, e->after = t->at;
    *some = value.length > 0;
    return 1;
}

/* Nothing: null, an empty string or an empty array. */
static int nothing(Text *t) {
    if (word(t, "null") || word(t, "\"\"")) return 1;
    if (!sign(t, '[')) return 0;
    blank(t);
    return sign(t, ']');
}

static int count(Text *t, int64_t *value) {
    *value = -1;
    if (word(t, "null")) return 1;
    const unsigned char *p = t->at;
    if (!sign(t, '0') && !digits(t)) return 0;
    for (*value = 0; p < t->at; p++) *value = *value * 10 + (*p - '0');
    return *value <= COUNT_LIMIT && (t->at >= t->end || !strchr(".eE0123456789", *t->at));
}

/* The API's objects. A key that comes twice counts as it came last, as it does in decode.py. */

static int delta(Text *t, Event *e, int *some) {
    Span key;
    int first = 1, step;
    *some = 0;
    if (word(t, "null")) return 1;
    if (!sign(t, '{')) return 0;
    while ((step = member(t, &first, &key)) == 1) {
        if (is(&key, "content")) {
            if (!content(t, e, some)) return 0;
        } else if (is(&key, "reasoning_content") || is(&key, "reasoning") || is(&key, "tool_calls")) {
            if (!nothing(t)) return 0;
        } else if (!skip(t, DEPTH)) return 0;
    }
    return step == 0;
}

static int choice(Text *t, Event *e) {
    Span key;
    int first = 1, step, in_delta = 0, in_text = 0;
    if (!sign(t, '{')) return 0;
    while ((step = member(t, &first, &key)) == 1) {
        if (is(&key, "delta")) {
            if (!delta(t, e, &in_delta)) return 0;
        } else if (is(&key, "text")) {
            if (!content(t, e, &in_text)) return 0;
        } else if (is(&key, "finish_reason")) {
            if (!text(t, &e->finish) || !e->finish.plain) return 0;
        } else if (is(&key, "message")) {
            if (!word(t, "null")) return 0;
        } else if (!skip(t, DEPTH)) return 0;
    }
    e->content = in_delta || in_text;
    return step == 0;
}

static int choices(Text *t, Event *e) {
    int first = 1;
    e->content = 0;
    e->finish = (Span){NULL, 0, 1};
    if (!sign(t, '[')) return 0;
    int step = element(t, &first);
    if (step == 1) step = choice(t, e) ? element(t, &first) : -1;
    return step == 0;
}

static int details(Text *t, int64_t *cached) {
    Span key;
    int first = 1, step;
    *cached = -1;
    if (word(t, "null")) return 1;
    if (!sign(t, '{')) return 0;
    while ((step = member(t, &first, &key)) == 1)
        if (!(is(&key, "cached_tokens") ? count(t, cached) : skip(t, DEPTH))) return 0;
    return step == 0;
}

static int usage(Text *t, Event *e) {
    Span key;
    int first = 1, step, ok;
    e->input = e->output = e->cached = -1;
    e->usage = 0;
    if (word(t, "null")) return 1;
    e->usage = 1;
    if (!sign(t, '{')) return 0;
    while ((step = member(t, &first, &key)) == 1) {
        if (is(&key, "prompt_tokens")) ok = count(t, &e->input);
        else if (is(&key, "completion_tokens")) ok = count(t, &e->output);
        else if (is(&key, "prompt_tokens_details")) ok = details(t, &e->cached);
        else ok = skip(t, DEPTH);
        if (!ok) return 0;
    }
    return step == 0;
}

static int event(Text *t, Event *e) {
    Span key, value;
    int first = 1, step;
    *e = (Event){0};
    blank(t);
    if (!sign(t, '{')) return 0;
    while ((step = member(t, &first, &key)) == 1) {
        if (is(&key, "choices")) {
            if (!choices(t, e)) return 0;
        } else if (is(&key, "usage")) {
            if (!usage(t, e)) return 0;
        } else if (is(&key, "error")) {
            if (!word(t, "null")) return 0;
        } else if (is(&key, "object")) {
            if (!text(t, &value) || !value.plain || is(&value, "error")) return 0;
        } else if (is(&key, "message")) {
            if (!text(t, &value)) return 0;
        } else if (!skip(t, DEPTH)) return 0;
    }
    blank(t);
    return step == 0 && t->at == t->end && !(e->content && e->usage); /* counts of every chunk are for decode.py */
}

/* Whether an event is the one before but for its text, as most are; `e` is then its own. That the rest is the same JSON
   needs no second look. */
static int alike(const Text *t, const Text *before, Event *e) {
    if (!e->content || e->texts != 1 || e->usage || e->finish.length) return 0; /* its one string was its content */
    size_t head = (size_t)(e->text - before->at), tail = (size_t)(before->end - e->after);
    if ((size_t)(t->end - t->at) < head + tail || memcmp(t->at, before->at, head)) return 0;
    Text rest = {t->at + head, t->end};
    Span value;
    if (!string(&rest, &value) || (size_t)(rest.end - rest.at) != tail || memcmp(rest.at, e->after, tail)) return 0;
    e->content = value.length > 0;
    e->text = t->at + head;
    e->after = rest.at;
    return 1;
}

/* The body of a chunked response into `body`; what each read had brought of it into `ends`. Its size, or -1. */
static int64_t unchunk(const Response *r, char *body, uint64_t *ends) {
    const char *p = memmem(r->data, r->size, "\r\n\r\n", 4), *end = r->data + r->size;
    size_t size = 0, reads = 0;
    if (!p || memcmp(r->data, "HTTP/1.1 200", 12)) return -1;
    for (p += 4;;) {
        size_t n = 0;
        const char *from = p;
        for (int c; p < end && p - from < 8; p++) {
            if ((c = *p) >= '0' && c <= '9') n = n * 16 + (size_t)(c - '0');
            else if ((c |= 0x20) >= 'a' && c <= 'f') n = n * 16 + (size_t)(c - 'a' + 10);
            else break;
        }
        if (p == from || end - p < 2 || memcmp(p, "\r\n", 2)) return -1;
        p += 2;
        if ((size_t)(end - p) < n + 2 || memcmp(p + n, "\r\n", 2)) return -1;
        for (; reads < r->count && r->data + r->reads[reads].end <= p + n; reads++) {
            const char *until = r->data + r->reads[reads].end;
            ends[reads] = size + (until > p ? (size_t)(until - p) : 0);
        }
        memcpy(body + size, p, n);
        size += n;
        p += n + 2;
        if (!n) break;
    }
    for (; reads < r->count; reads++) ends[reads] = size;
    return p == end ? (int64_t)size : -1;
}

static int events(Response *r, const char *body, size_t size, const uint64_t *ends, Found *found) {
    const char *p = body, *end = body + size;
    size_t read = 0;
    Text before = {NULL, NULL};
    Event e = {0};
    while (p < end) {
        const char *line = memchr(p, '\n', (size_t)(end - p));
        if (!line || end - line < 2 || line[1] != '\n' || line - p < 6 || memcmp(p, "data: ", 6)) return 0;
        Text t = {(const unsigned char *)p + 6, (const unsigned char *)line};
        p = line + 2;
        while (read + 1 < r->count && ends[read] < (size_t)(p - body)) read++;
        if (t.end - t.at == 6 && !memcmp(t.at, "[DONE]", 6)) {
            found->done = 1;
            continue;
        }
        Text whole = t;
        if ((!before.at || !alike(&t, &before, &e)) && !event(&t, &e)) return 0;
        before = whole;
        if (e.finish.length >= sizeof found->finish_reason) return 0;
        if (e.content) r->arrivals[found->chunks++] = r->reads[read].at;
        if (e.usage) found->input = e.input, found->output = e.output, found->cached = e.cached;
        if (e.finish.length) {
            memcpy(found->finish_reason, e.finish.from, e.finish.length);
            found->finish_reason[e.finish.length] = 0;
        }
    }
    return size > 0;
}

/* Decode a whole response that is attached to no connection any more; 0: decode.py has to. `found->arrivals` live as
   long as the response. */
int lc_decode(Response *r, Found *found) {
    *found = (Found){.input = -1, .output = -1, .cached = -1};
    if (!r->count) return 0;
    char *body = malloc(r->size);
    uint64_t *ends = malloc(r->count * sizeof *ends);
    free(r->arrivals);
    r->arrivals = malloc((r->size / 8 + 1) * sizeof *r->arrivals); /* no event is shorter than "data: \n\n" */
    int64_t size = body && ends && r->arrivals ? unchunk(r, body, ends) : -1;
    int ok = size >= 0 && events(r, body, (size_t)size, ends, found);
    found->arrivals = r->arrivals;
    free(body);
    free(ends);
    return ok;
}

/* Which sources this was built from (hatch_build.py). */
const char *lc_source(void) { return SOURCE; }
