#include "CBusError.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 1024 };

// A mapped range. Nodes are reused and never freed, because the handler may walk the list at any time.
typedef struct mapping {
  atomic_uintptr_t start;  // 0: the node is not in use
  atomic_size_t bytes;
  char path[PATH_BYTES];
  struct mapping *next;       // in the list of all nodes; never changes
  struct mapping *next_free;  // in the list of nodes that are not in use
} mapping;

static _Atomic(mapping *) all;
static mapping *free_nodes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction previous;

void *graft_remember_mapping(const void *start, size_t bytes, const char *path) {
  pthread_mutex_lock(&lock);
  mapping *node = free_nodes;
  if (node) {
    free_nodes = node->next_free;
  } else if ((node = calloc(1, sizeof *node))) {
    node->next = atomic_load(&all);
    atomic_store(&all, node);
  }
  pthread_mutex_unlock(&lock);
  if (!node) return NULL;
  strncpy(node->path, path, PATH_BYTES - 1);
  atomic_store(&node->bytes, bytes);
  atomic_store(&node->start, (uintptr_t)start);
  return node;
}

void graft_forget_mapping(void *mapping_) {
  mapping *node = mapping_;
  if (!node) return;
  atomic_store(&node->start, 0);
  pthread_mutex_lock(&lock);
  node->next_free = free_nodes;
  free_nodes = node;
  pthread_mutex_unlock(&lock);
}

// Writes to standard error by calls that are allowed in a signal handler only.
static void print(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  if (write(STDERR_FILENO, text, length) < 0) return;
}

static void handle(int number, siginfo_t *info, void *context) {
  (void)context;
  uintptr_t address = (uintptr_t)info->si_addr;
  for (mapping *node = atomic_load(&all); node; node = node->next) {
    uintptr_t start = atomic_load(&node->start);
    if (!start || address < start || address - start >= atomic_load(&node->bytes)) continue;
    print("graft: ");
    print(node->path);
    print(": was cut short, or its disk failed, while it was in use; put the whole file back and start again\n");
    _exit(1);
  }
  // Not a recorded range: with the previous handler back, the instruction runs again and raises the error again.
  sigaction(number, &previous, NULL);
}

void graft_exit_on_bus_error(void) {
  struct sigaction action = {0};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &previous);
}
