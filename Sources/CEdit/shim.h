#include <stdio.h>
#include <editline/readline.h>

/* Leaves signals to the program, which handles Ctrl-C itself. */
static inline void graft_edit_leave_signals(void) { rl_catch_signals = 0; }
