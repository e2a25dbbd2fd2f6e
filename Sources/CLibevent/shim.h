// libevent (core and OpenSSL parts) and the few OpenSSL calls that a TLS listener needs. What those libraries define as
// macros or variadic functions, which Swift cannot import, is defined here as inline functions.
#ifndef GRAFT_CLIBEVENT_SHIM_H
#define GRAFT_CLIBEVENT_SHIM_H

// Included first: Debian's event2 headers define _GNU_SOURCE, and without this the C library's types would differ from
// those in Swift's Glibc module.
#include <features.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static const short graft_ev_read = EV_READ;
static const short graft_ev_write = EV_WRITE;
static const short graft_ev_signal = EV_SIGNAL;
static const short graft_ev_persist = EV_PERSIST;
static const short graft_ev_edge = EV_ET;

static const short graft_bev_event_eof = BEV_EVENT_EOF;
static const short graft_bev_event_error = BEV_EVENT_ERROR;
static const short graft_bev_event_timeout = BEV_EVENT_TIMEOUT;
static const short graft_bev_event_connected = BEV_EVENT_CONNECTED;

// An event base with a method that can report each change of a descriptor once (EV_ET), whatever environment variables
// exclude.
static inline struct event_base *graft_event_base_new(void) {
  struct event_config *config = event_config_new();
  if (!config) return NULL;
  event_config_require_features(config, EV_FEATURE_ET);
  event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
  struct event_base *base = event_base_new_with_config(config);
  event_config_free(config);
  return base;
}

// A listening socket that is bound already; accepted sockets come non-blocking and close-on-exec.
static inline struct evconnlistener *graft_listener_new(
    struct event_base *base, evconnlistener_cb callback, void *context, evutil_socket_t socket) {
  return evconnlistener_new(base, callback, context, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, socket);
}

static inline struct bufferevent *graft_bufferevent_new(struct event_base *base, evutil_socket_t socket) {
  return bufferevent_socket_new(base, socket, BEV_OPT_CLOSE_ON_FREE);
}

// Takes ownership of `ssl` and `socket` if it succeeds. A peer that closes without close_notify counts as closed, not
// as an error, because HTTP itself gives the length of every message.
static inline struct bufferevent *graft_bufferevent_new_tls(
    struct event_base *base, evutil_socket_t socket, SSL *ssl) {
  struct bufferevent *bev = bufferevent_openssl_socket_new(
      base, socket, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
  if (bev) bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
  return bev;
}

// A server context for TLS 1.2 and later. It releases the record buffers of idle connections.
static inline SSL_CTX *graft_tls_context_new(void) {
  SSL_CTX *context = SSL_CTX_new(TLS_server_method());
  if (!context) return NULL;
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  return context;
}

static inline int graft_tls_use_private_key(SSL_CTX *context, const char *path) {
  return SSL_CTX_use_PrivateKey_file(context, path, SSL_FILETYPE_PEM);
}

// Writes the oldest queued OpenSSL error as text, and empties the queue.
static inline void graft_tls_error(char *text, size_t length) {
  unsigned long code = ERR_get_error();
  const char *reason = code ? ERR_reason_error_string(code) : NULL;
  size_t i = 0;
  if (!reason) reason = "unknown TLS error";
  for (; reason[i] && i + 1 < length; i++) text[i] = reason[i];
  if (length) text[i] = 0;
  ERR_clear_error();
}

// Functions that Swift's Glibc module lacks: an eventfd, and an epoll set that only reports hang-ups, each once.

static inline int graft_wake_descriptor(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

struct graft_hangup {
  uint64_t id;
  _Bool is_error;   // EPOLLERR
  _Bool is_hangup;  // EPOLLHUP
};

static inline int graft_hangup_set_new(void) { return epoll_create1(EPOLL_CLOEXEC); }

static inline int graft_hangup_set_add(int set, int socket, uint64_t id) {
  struct epoll_event event = {.events = EPOLLRDHUP | EPOLLET, .data = {.u64 = id}};
  return epoll_ctl(set, EPOLL_CTL_ADD, socket, &event);
}

static inline int graft_hangup_set_remove(int set, int socket) {
  struct epoll_event event = {0};
  return epoll_ctl(set, EPOLL_CTL_DEL, socket, &event);
}

// Stores the next hang-up in *hangup. Returns 1, or 0 if there is none.
static inline int graft_hangup_set_next(int set, struct graft_hangup *hangup) {
  struct epoll_event event;
  if (epoll_wait(set, &event, 1, 0) != 1) return 0;
  hangup->id = event.data.u64;
  hangup->is_error = (event.events & EPOLLERR) != 0;
  hangup->is_hangup = (event.events & EPOLLHUP) != 0;
  return 1;
}

#endif
