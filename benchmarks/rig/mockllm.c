// mockllm.c - fast deterministic OpenAI-compatible mock LLM server (single thread, epoll).
// Build: gcc -O2 -Wall -o mockllm mockllm.c      Run: taskset -c 0 ./mockllm --port 8000 --ttft-us 50000 --itl-us 10000
// Flags: see usage() below.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64; typedef uint32_t u32;
static inline u64 now_ns(void){ struct timespec t; clock_gettime(CLOCK_MONOTONIC,&t); return (u64)t.tv_sec*1000000000ull+t.tv_nsec; }

// ---------- config ----------
static int   c_port=8000, c_tokens=128, c_force_tokens=0, c_coalesce=1, c_spin_us=60, c_late_headers=0, c_role_chunk=0;
static u64   c_ttft=0, c_itl=0, c_spread=0;   // ns
static long  c_fail_every=0, c_cut_every=0;
static const char *c_model="mock", *c_log=NULL, *c_bind="127.0.0.1";
static void usage(void){ fprintf(stderr,
"mockllm: deterministic OpenAI-compatible streaming mock (HTTP/1.1, keep-alive, chunked SSE)\n"
" --bind A        listen address (127.0.0.1)          --port N        (8000)\n"
" --ttft-us N     request fully read -> first token   --itl-us N      token k is due at ttft+k*itl (absolute schedule, no drift)\n"
" --tokens N      tokens if request has no max_tokens (128)   --force-tokens  ignore the request's max_tokens\n"
" --spread-us N   adds a per-request deterministic extra TTFT in [0,N) (dephases streams)\n"
" --coalesce N    tokens (SSE events) per send() when itl=0 (1)\n"
" --late-headers  send HTTP header together with first token (default: at once, as vLLM does)\n"
" --role-chunk    chat: send a role-only empty-content chunk just before the first token\n"
" --spin-us N     busy-poll in the last N us before a deadline (60); -1 = always busy-poll\n"
" --model NAME    model id (mock)      --log FILE  keep send times in memory; written on GET /__dump and on SIGTERM/SIGINT\n"
" --fail-every N  every Nth request gets HTTP 500     --cut-every N  every Nth stream is cut (RST/close) halfway\n"
"Admin (GET): /__stats  truth: TTFT/ITL/lateness mean,p50,p99,max (us), counts, server CPU\n"
"             /__count  cheap counters (safe to poll)\n"
"             /__reset  zero stats + log     /__dump  write log     /__config?ttft_us=&itl_us=&tokens=&spread_us=&coalesce=\n"
"Log format (little endian, per finished stream): u64 id; u64 recv_ns; u64 n; u64 send_ns[n]   (CLOCK_MONOTONIC = Python perf_counter_ns)\n"
"The id (of a request with \"user\":\"<number>\" that number, else a counter) is in every event: \"id\":\"cmpl-<id>\" / \"chatcmpl-<id>\" and in header X-Request-Id.\n"); exit(2);}

// ---------- stats ----------
#define HB 400000            // 1us buckets to 400 ms
typedef struct { u32 b[HB+1]; u64 n; double sum; u64 max; } Hist;
static Hist h_ttft,h_itl,h_late;
static void hadd(Hist*h,u64 ns){ u64 us=ns/1000; h->b[us<HB?us:HB]++; h->n++; h->sum+=ns; if(ns>h->max)h->max=ns; }
static double hq(Hist*h,double q){ if(!h->n) return 0; u64 k=(u64)(q*(h->n-1)),c=0; for(int i=0;i<=HB;i++){ c+=h->b[i]; if(c>k) return i==HB?h->max/1e3:i+0.5; } return h->max/1e3; }
static u64 s_req,s_done,s_chunks,s_conns,s_bytes,s_sends,s_aborted,s_fail,s_t0,s_first,s_last; static int s_active,s_maxactive; static double s_cpu0;
static double cpu(void){ struct rusage r; getrusage(RUSAGE_SELF,&r); return r.ru_utime.tv_sec+r.ru_stime.tv_sec+(r.ru_utime.tv_usec+r.ru_stime.tv_usec)/1e6; }

// ---------- log ----------
static char *lg; static size_t lg_n,lg_cap;
static void lput(const void*p,size_t n){ if(lg_n+n>lg_cap){ lg_cap=(lg_n+n)*2; lg=realloc(lg,lg_cap); if(!lg){perror("realloc");exit(1);} } memcpy(lg+lg_n,p,n); lg_n+=n; }
static void ldump(void){ if(!c_log) return; FILE*f=fopen(c_log,"wb"); if(!f){perror(c_log);return;} fwrite(lg,1,lg_n,f); fclose(f); }
static void sreset(void){ memset(&h_ttft,0,sizeof h_ttft); memset(&h_itl,0,sizeof h_itl); memset(&h_late,0,sizeof h_late);
  s_req=s_done=s_chunks=s_conns=s_bytes=s_sends=s_aborted=s_fail=s_first=s_last=0; s_maxactive=s_active; s_t0=now_ns(); s_cpu0=cpu(); lg_n=0; }

// ---------- connections ----------
enum { IDLE, STREAM, NONSTREAM };
typedef struct Conn { int fd, state, chat, usage, n, seq, close_after, hdr_sent, hi, inready, want_out, cut, dead, role_pending; long ptoks;
  u64 id, recv, due, last; u64 *log; int logcap;
  char *in; size_t in_n,in_cap; char *out; size_t out_n,out_off,out_cap; struct Conn *rn; } Conn;
static int ep; static Conn **heap; static int hn,hcap; static Conn *rq_head,*rq_tail; static u64 next_id=1;

static void hswap(int a,int b){ Conn*t=heap[a]; heap[a]=heap[b]; heap[b]=t; heap[a]->hi=a; heap[b]->hi=b; }
static void hup(int i){ while(i){ int p=(i-1)/2; if(heap[p]->due<=heap[i]->due)break; hswap(p,i); i=p; } }
static void hdown(int i){ for(;;){ int l=2*i+1,r=l+1,m=i; if(l<hn&&heap[l]->due<heap[m]->due)m=l; if(r<hn&&heap[r]->due<heap[m]->due)m=r; if(m==i)break; hswap(m,i); i=m; } }
static void hpush(Conn*c){ if(hn==hcap){ hcap=hcap?hcap*2:1024; heap=realloc(heap,hcap*sizeof*heap);} heap[hn]=c; c->hi=hn; hup(hn++); }
static void hdel(Conn*c){ int i=c->hi; if(i<0)return; hn--; if(i!=hn){ heap[i]=heap[hn]; heap[i]->hi=i; hup(i); hdown(heap[i]->hi==i?i:heap[i]->hi); } c->hi=-1; }
static void rpush(Conn*c){ if(c->inready)return; c->inready=1; c->rn=NULL; if(rq_tail)rq_tail->rn=c; else rq_head=c; rq_tail=c; }
static Conn* rpop(void){ Conn*c=rq_head; if(c){ rq_head=c->rn; if(!rq_head)rq_tail=NULL; c->inready=0; } return c; }
static Conn *graveyard;
static void cclose(Conn*c){ if(c->dead)return; c->dead=1; if(c->state!=IDLE){ s_active--; s_aborted++; } hdel(c); epoll_ctl(ep,EPOLL_CTL_DEL,c->fd,NULL); close(c->fd);
  if(!c->inready){ c->rn=graveyard; graveyard=c; } } // freed at end of loop turn; if in ready queue freed when popped
static void cfree(Conn*c){ free(c->in); free(c->out); free(c->log); free(c); }
static void arm(Conn*c,int out){ if(c->want_out==out)return; c->want_out=out; struct epoll_event e={.events=EPOLLIN|EPOLLRDHUP|(out?EPOLLOUT:0),.data.ptr=c}; epoll_ctl(ep,EPOLL_CTL_MOD,c->fd,&e); }
static void flush_out(Conn*c){ while(c->out_off<c->out_n){ ssize_t w=send(c->fd,c->out+c->out_off,c->out_n-c->out_off,MSG_NOSIGNAL); if(w<0){ if(errno==EAGAIN){ arm(c,1); return; } if(errno==EINTR)continue; cclose(c); return; } c->out_off+=w; } c->out_n=c->out_off=0; arm(c,0); }
static void csend(Conn*c,const char*p,size_t n){ if(c->dead)return; s_bytes+=n; s_sends++; if(c->out_n==c->out_off){ ssize_t w; do w=send(c->fd,p,n,MSG_NOSIGNAL); while(w<0&&errno==EINTR); if(w<0){ if(errno!=EAGAIN){ cclose(c); return; } w=0; } p+=w; n-=w; if(!n)return; }
  if(c->out_n+n>c->out_cap){ c->out_cap=(c->out_n+n)*2; c->out=realloc(c->out,c->out_cap);} memcpy(c->out+c->out_n,p,n); c->out_n+=n; arm(c,1); }
static void reply(Conn*c,const char*status,const char*ct,const char*body,size_t n){ char h[512]; int k=snprintf(h,sizeof h,"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n",status,ct,n,c->close_after?"close":"keep-alive"); char*b=malloc(k+n); memcpy(b,h,k); memcpy(b+k,body,n); csend(c,b,k+n); free(b); if(c->close_after&&!c->dead&&c->out_n==c->out_off){ shutdown(c->fd,SHUT_WR);} }

static const char *WORDS[]={" the"," of"," and"," to"," in"," is"," that"," for"}; // rotate; each one token in the rig's tokenizer
static char hexd[]="0123456789abcdef";
// append one HTTP chunk holding the SSE payload
static char* put_event(char*o,const char*payload,int n){ // 4 hex digits length
  int L=n; *o++=hexd[(L>>12)&15];*o++=hexd[(L>>8)&15];*o++=hexd[(L>>4)&15];*o++=hexd[L&15]; *o++='\r';*o++='\n'; memcpy(o,payload,n); o+=n; *o++='\r';*o++='\n'; return o; }
static const char HDR[]="HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\nX-Request-Id: %llu\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";
static void process_input(Conn*c);
static void finish(Conn*c){ if(c->dead)return; s_active--; s_done++; if(c_log){ u64 h[3]={c->id,c->recv,(u64)c->seq}; lput(h,sizeof h); lput(c->log,8ull*c->seq);} c->state=IDLE; if(c->close_after){ shutdown(c->fd,SHUT_WR); return; } if(c->in_n) process_input(c); }
static int token_event(Conn*c,char*p,int cap,int last){ const char*w=WORDS[c->seq&7]; const char*fr=last?"\"length\"":"null";
  if(c->chat) return snprintf(p,cap,"data: {\"id\":\"chatcmpl-%llu\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"%s\",\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":%s}]}\n\n",(unsigned long long)c->id,c_model,(c->seq==0&&!c_role_chunk)?"\"role\":\"assistant\",":"",w,fr);
  return snprintf(p,cap,"data: {\"id\":\"cmpl-%llu\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":\"%s\",\"choices\":[{\"index\":0,\"text\":\"%s\",\"logprobs\":null,\"finish_reason\":%s}]}\n\n",(unsigned long long)c->id,c_model,w,fr); }
static void emit(Conn*c){ // send next token(s) of a stream
  static char buf[1<<18]; char ev[1024]; char*o=buf; int k=1; if(!c_itl&&c_coalesce>1) k=c_coalesce; if(k>200)k=200;
  if(!c->hdr_sent){ o+=sprintf(o,HDR,(unsigned long long)c->id); c->hdr_sent=1; }
  if(c->role_pending){ c->role_pending=0; int m=snprintf(ev,sizeof ev,"data: {\"id\":\"chatcmpl-%llu\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"%s\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",(unsigned long long)c->id,c_model); o=put_event(o,ev,m); }
  int first=c->seq,done=0;
  for(;k&&c->seq<c->n;k--){ int last=c->seq==c->n-1; int m=token_event(c,ev,sizeof ev,last); o=put_event(o,ev,m); c->seq++; if(last){
      if(c->usage){ m=snprintf(ev,sizeof ev,"data: {\"id\":\"%s-%llu\",\"object\":\"%s\",\"created\":1700000000,\"model\":\"%s\",\"choices\":[],\"usage\":{\"prompt_tokens\":%ld,\"total_tokens\":%ld,\"completion_tokens\":%d}}\n\n",c->chat?"chatcmpl":"cmpl",(unsigned long long)c->id,c->chat?"chat.completion.chunk":"text_completion",c_model,c->ptoks,c->ptoks+c->n,c->n); o=put_event(o,ev,m); }
      o=put_event(o,"data: [DONE]\n\n",14); memcpy(o,"0\r\n\r\n",5); o+=5; done=1; } }
  u64 t=now_ns();
  for(int i=first;i<c->seq;i++) c->log[i]=t;
  hadd(&h_late,t>c->due?t-c->due:0); if(first==0){ hadd(&h_ttft,t-c->recv);} else hadd(&h_itl,t-c->last);
  for(int i=first+1;i<c->seq;i++) hadd(&h_itl,0);
  c->last=t; s_last=t; s_chunks+=c->seq-first; c->due+=c_itl;
  csend(c,buf,o-buf); if(c->dead) return;
  if(c->cut&&c->seq>=c->n/2){ struct linger l={1,0}; setsockopt(c->fd,SOL_SOCKET,SO_LINGER,&l,sizeof l); cclose(c); return; }
  if(done){ finish(c); return; }
  if(c_itl) hpush(c); else rpush(c);
}
static void nonstream_done(Conn*c){ char*b=malloc(512+c->n*8ull); char*o=b; u64 t=now_ns(); for(int i=0;i<c->n;i++)c->log[i]=t; hadd(&h_ttft,t-c->recv); hadd(&h_late,t>c->due?t-c->due:0); s_chunks++; s_last=t;
  if(c->chat) o+=sprintf(o,"{\"id\":\"chatcmpl-%llu\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"%s\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"",(unsigned long long)c->id,c_model);
  else o+=sprintf(o,"{\"id\":\"cmpl-%llu\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":\"%s\",\"choices\":[{\"index\":0,\"text\":\"",(unsigned long long)c->id,c_model);
  for(c->seq=0;c->seq<c->n;c->seq++){ const char*w=WORDS[c->seq&7]; o=stpcpy(o,w);} 
  o+=sprintf(o,c->chat?"\"},\"logprobs\":null,\"finish_reason\":\"length\"}],":"\",\"logprobs\":null,\"finish_reason\":\"length\"}],");
  o+=sprintf(o,"\"usage\":{\"prompt_tokens\":%ld,\"total_tokens\":%ld,\"completion_tokens\":%d}}",c->ptoks,c->ptoks+c->n,c->n);
  int ca=c->close_after; c->close_after=0; reply(c,"200 OK","application/json",b,o-b); c->close_after=ca; free(b); finish(c); }

static const char* jfind(const char*b,size_t n,const char*key){ const char*p=memmem(b,n,key,strlen(key)); if(!p)return NULL; p+=strlen(key); const char*e=b+n; while(p<e&&(*p==' '||*p==':'||*p=='\t'||*p=='\n'||*p=='\r'))p++; return p<e?p:NULL; }
static long qarg(const char*q,const char*k,long d){ const char*p=q?strstr(q,k):NULL; return p?atol(p+strlen(k)):d; }
static void admin(Conn*c,const char*path){ char b[4096]; 
  if(!strncmp(path,"/__reset",8)){ sreset(); reply(c,"200 OK","application/json","{}",2); return; }
  if(!strncmp(path,"/__count",8)){ int n=sprintf(b,"{\"requests\":%llu,\"done\":%llu,\"chunks\":%llu,\"active\":%d,\"max_active\":%d}",(unsigned long long)s_req,(unsigned long long)s_done,(unsigned long long)s_chunks,s_active,s_maxactive); reply(c,"200 OK","application/json",b,n); return; }
  if(!strncmp(path,"/__dump",7)){ ldump(); reply(c,"200 OK","application/json","{}",2); return; }
  if(!strncmp(path,"/__config",9)){ c_ttft=qarg(path,"ttft_us=",c_ttft/1000)*1000ull; c_itl=qarg(path,"itl_us=",c_itl/1000)*1000ull; c_tokens=qarg(path,"tokens=",c_tokens); c_spread=qarg(path,"spread_us=",c_spread/1000)*1000ull; c_coalesce=qarg(path,"coalesce=",c_coalesce); reply(c,"200 OK","application/json","{}",2); return; }
  double w=(now_ns()-s_t0)/1e9, act=s_last>s_first?(s_last-s_first)/1e9:0; int n=snprintf(b,sizeof b,"{\"requests\":%llu,\"done\":%llu,\"aborted\":%llu,\"failed\":%llu,\"chunks\":%llu,\"conns\":%llu,\"sends\":%llu,\"bytes\":%llu,\"max_active\":%d,\"wall_s\":%.3f,\"active_s\":%.4f,\"cpu_s\":%.3f,\"req_per_s\":%.2f,\"chunks_per_s\":%.1f",
    (unsigned long long)s_req,(unsigned long long)s_done,(unsigned long long)s_aborted,(unsigned long long)s_fail,(unsigned long long)s_chunks,(unsigned long long)s_conns,(unsigned long long)s_sends,(unsigned long long)s_bytes,s_maxactive,w,act,cpu()-s_cpu0,act?s_done/act:0,act?s_chunks/act:0);
  struct{const char*k;Hist*h;}hs[]={{"ttft_us",&h_ttft},{"itl_us",&h_itl},{"late_us",&h_late}};
  for(int i=0;i<3;i++){ Hist*h=hs[i].h; n+=snprintf(b+n,sizeof b-n,",\"%s\":{\"n\":%llu,\"mean\":%.1f,\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f}",hs[i].k,(unsigned long long)h->n,h->n?h->sum/h->n/1e3:0,hq(h,.5),hq(h,.99),h->max/1e3);} 
  n+=snprintf(b+n,sizeof b-n,"}"); reply(c,"200 OK","application/json",b,n); }

static void start_gen(Conn*c,int chat,const char*body,size_t bn,u64 t){ s_req++; if(!s_first)s_first=t; c->id=next_id++; { const char*u=jfind(body,bn,"\"user\":"); if(u&&*u=='"'&&u+1<body+bn&&u[1]>='0'&&u[1]<='9') c->id=strtoull(u+1,NULL,10); } c->recv=t; c->chat=chat; c->seq=0; c->cut=0;
  if(c_fail_every&&c->id%c_fail_every==0){ s_fail++; static const char e[]="{\"error\":{\"message\":\"mock failure\",\"type\":\"server_error\",\"code\":500}}"; reply(c,"500 Internal Server Error","application/json",e,sizeof e-1); return; }
  if(c_cut_every&&c->id%c_cut_every==0) c->cut=1;
  const char*p; long n=c_tokens; if(!c_force_tokens){ if((p=jfind(body,bn,"\"max_completion_tokens\""))&&*p>='0'&&*p<='9') n=atol(p); else if((p=jfind(body,bn,"\"max_tokens\""))&&*p>='0'&&*p<='9') n=atol(p); }
  if(n<1)n=1; if(n>1000000)n=1000000; c->n=n; int stream=(p=jfind(body,bn,"\"stream\""))&&*p=='t'; c->usage=(p=jfind(body,bn,"\"include_usage\""))&&*p=='t'; long sp=0; for(size_t i=0;i<bn;i++)sp+=body[i]==' '; c->ptoks=sp+1;
  if(c->logcap<n){ c->logcap=n; c->log=realloc(c->log,8ull*n); }
  u64 extra=c_spread?((c->id*0x9E3779B97F4A7C15ull)>>20)%c_spread:0; c->due=t+c_ttft+extra; c->state=stream?STREAM:NONSTREAM; if(++s_active>s_maxactive)s_maxactive=s_active; c->hdr_sent=0; c->role_pending=chat&&c_role_chunk&&stream;
  if(!stream) c->due+=c_itl*(n-1);
  if(stream&&!c_late_headers&&(c_ttft||extra)){ char h[512]; int k=sprintf(h,HDR,(unsigned long long)c->id); c->hdr_sent=1; csend(c,h,k); if(c->dead)return; }
  if(c->due<=t) rpush(c); else hpush(c); }

static void process_input(Conn*c){ while(!c->dead&&c->state==IDLE&&c->in_n){
    char*he=memmem(c->in,c->in_n,"\r\n\r\n",4); if(!he){ if(c->in_n>65536) cclose(c); return; } size_t hl=he-c->in+4; *he=0;
    size_t cl=0; int chunked=0,expect=0; c->close_after=0; for(char*l=strstr(c->in,"\r\n");l;l=strstr(l+2,"\r\n")){ char*h=l+2; if(!strncasecmp(h,"content-length:",15)) cl=strtoull(h+15,NULL,10); else if(!strncasecmp(h,"transfer-encoding:",18)&&strcasestr(h,"chunked")==h+18+strspn(h+18," ")) chunked=1; else if(!strncasecmp(h,"expect:",7)) expect=1; else if(!strncasecmp(h,"connection:",11)&&!strncasecmp(h+11+strspn(h+11," "),"close",5)) c->close_after=1; }
    size_t total=hl+cl; char*body=c->in+hl; size_t bn=cl;
    if(chunked){ // decode when complete
      char*p=body,*e=c->in+c->in_n; char*o=malloc(c->in_n); size_t on=0; int ok=0; for(;;){ char*nl=memmem(p,e-p,"\r\n",2); if(!nl)break; size_t k=strtoull(p,NULL,16); p=nl+2; if((size_t)(e-p)<k+2)break; if(!k){ ok=1; p+=2; break; } memcpy(o+on,p,k); on+=k; p+=k+2; }
      if(!ok){ free(o); *he='\r'; if(expect&&c->in_n==hl) csend(c,"HTTP/1.1 100 Continue\r\n\r\n",25); return; } total=p-c->in; memcpy(body,o,on); free(o); bn=on;
    } else if(c->in_n<total){ *he='\r'; if(expect&&c->in_n==hl) csend(c,"HTTP/1.1 100 Continue\r\n\r\n",25); return; }
    u64 t=now_ns(); char*sp=strchr(c->in,' '); char*path=sp?sp+1:(char*)""; char*pe=path+strcspn(path," \r\n"); char save=*pe; *pe=0; int post=!strncmp(c->in,"POST ",5);
    if(post&&!strncmp(path,"/v1/chat/completions",20)) start_gen(c,1,body,bn,t);
    else if(post&&!strncmp(path,"/v1/completions",15)) start_gen(c,0,body,bn,t);
    else if(!strncmp(path,"/v1/models",10)){ char b[512]; int k=snprintf(b,sizeof b,"{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"mock\",\"root\":\"%s\",\"max_model_len\":131072}]}",c_model,c_model); reply(c,"200 OK","application/json",b,k); }
    else if(!strncmp(path,"/__",3)) admin(c,path);
    else if(!strncmp(path,"/health",7)||!strncmp(path,"/ping",5)||!strcmp(path,"/")||!strncmp(path,"/version",8)) reply(c,"200 OK","application/json","{\"version\":\"mock\"}",18);
    else reply(c,"404 Not Found","application/json","{\"error\":\"not found\"}",21);
    *pe=save; if(c->dead)return; if(c->in_n>total) memmove(c->in,c->in+total,c->in_n-total); c->in_n-=total; } }

static volatile sig_atomic_t stop; static void onsig(int s){ (void)s; stop=1; }
int main(int argc,char**argv){
  for(int i=1;i<argc;i++){ const char*a=argv[i]; 
    #define NXT (i+1<argc?argv[++i]:(usage(),""))
    if(!strcmp(a,"--port"))c_port=atoi(NXT); else if(!strcmp(a,"--bind"))c_bind=NXT; else if(!strcmp(a,"--ttft-us"))c_ttft=atoll(NXT)*1000ull; else if(!strcmp(a,"--itl-us"))c_itl=atoll(NXT)*1000ull; else if(!strcmp(a,"--tokens"))c_tokens=atoi(NXT); else if(!strcmp(a,"--force-tokens"))c_force_tokens=1; else if(!strcmp(a,"--spread-us"))c_spread=atoll(NXT)*1000ull; else if(!strcmp(a,"--coalesce"))c_coalesce=atoi(NXT); else if(!strcmp(a,"--late-headers"))c_late_headers=1; else if(!strcmp(a,"--role-chunk"))c_role_chunk=1; else if(!strcmp(a,"--spin-us"))c_spin_us=atoi(NXT); else if(!strcmp(a,"--model"))c_model=NXT; else if(!strcmp(a,"--log"))c_log=NXT; else if(!strcmp(a,"--fail-every"))c_fail_every=atol(NXT); else if(!strcmp(a,"--cut-every"))c_cut_every=atol(NXT); else usage(); }
  signal(SIGPIPE,SIG_IGN); struct sigaction sa={.sa_handler=onsig}; sigaction(SIGTERM,&sa,NULL); sigaction(SIGINT,&sa,NULL); prctl(PR_SET_TIMERSLACK,1);
  int ls=socket(AF_INET,SOCK_STREAM|SOCK_NONBLOCK,0),one=1; setsockopt(ls,SOL_SOCKET,SO_REUSEADDR,&one,sizeof one); struct sockaddr_in ad={.sin_family=AF_INET,.sin_port=htons(c_port)}; inet_pton(AF_INET,c_bind,&ad.sin_addr); if(bind(ls,(void*)&ad,sizeof ad)||listen(ls,8192)){ perror("bind/listen"); return 1; }
  ep=epoll_create1(0); struct epoll_event e={.events=EPOLLIN,.data.ptr=NULL}; epoll_ctl(ep,EPOLL_CTL_ADD,ls,&e); sreset(); static struct epoll_event ev[512];
  fprintf(stderr,"mockllm on %s:%d ttft=%lluus itl=%lluus tokens=%d\n",c_bind,c_port,(unsigned long long)c_ttft/1000,(unsigned long long)c_itl/1000,c_tokens);
  while(!stop){ int n; u64 t; 
    if(rq_head||c_spin_us<0) n=epoll_wait(ep,ev,512,0);
    else if(hn){ t=now_ns(); u64 d=heap[0]->due; if(d<=t+(u64)c_spin_us*1000) n=epoll_wait(ep,ev,512,0); else { u64 w=d-t-(u64)c_spin_us*1000; struct timespec ts={w/1000000000ull,w%1000000000ull}; n=epoll_pwait2(ep,ev,512,&ts,NULL);} }
    else n=epoll_wait(ep,ev,512,-1);
    if(n<0&&errno!=EINTR){ perror("epoll_wait"); break; }
    for(int i=0;i<n;i++){ Conn*c=ev[i].data.ptr; if(!c){ for(int k=0;k<256;k++){ int fd=accept4(ls,NULL,NULL,SOCK_NONBLOCK); if(fd<0)break; setsockopt(fd,IPPROTO_TCP,TCP_NODELAY,&one,sizeof one); c=calloc(1,sizeof*c); c->fd=fd; c->hi=-1; struct epoll_event x={.events=EPOLLIN|EPOLLRDHUP,.data.ptr=c}; epoll_ctl(ep,EPOLL_CTL_ADD,fd,&x); s_conns++; } continue; }
      if(c->dead)continue; if(ev[i].events&EPOLLOUT) flush_out(c); if(c->dead)continue;
      if(ev[i].events&(EPOLLIN|EPOLLRDHUP|EPOLLHUP|EPOLLERR)){ if(c->in_cap-c->in_n<8192){ c->in_cap=c->in_cap?c->in_cap*2:16384; c->in=realloc(c->in,c->in_cap+1);} ssize_t r=recv(c->fd,c->in+c->in_n,c->in_cap-c->in_n,0); if(r==0||(r<0&&errno!=EAGAIN&&errno!=EINTR)){ cclose(c); continue; } if(r>0){ c->in_n+=r; if(c->state==IDLE) process_input(c); } } }
    // due timers: at most 64 per turn, so that new input is still seen
    for(int k=0;k<64&&hn;k++){ t=now_ns(); Conn*c=heap[0]; if(c->due>t)break; hdel(c); if(c->state==NONSTREAM) nonstream_done(c); else emit(c); }
    // ready (zero-delay) queue: one send per connection per turn
    if(rq_head){ Conn*end=rq_tail; for(;;){ Conn*c=rpop(); int was_end=c==end; if(c->dead) cfree(c); else if(c->out_n>c->out_off){ flush_out(c); if(!c->dead){ if(c->out_n>c->out_off) rpush(c); else if(c->state==NONSTREAM) nonstream_done(c); else emit(c);} } else if(c->state==NONSTREAM) nonstream_done(c); else emit(c); if(was_end||!rq_head)break; } }
    while(graveyard){ Conn*c=graveyard; graveyard=c->rn; cfree(c); }
  }
  ldump(); return 0; }
