/* Signals that ask a run to stop: SIGTERM, SIGUSR1, SIGUSR2. The first one is only noted. Another
 * one that comes INTERRUPT_GRACE_SECONDS later ends the process at once; before that it counts as
 * the same one, because launchers and schedulers send a signal twice. */
#ifndef AUTOLORA_BASE_INTERRUPT_H
#define AUTOLORA_BASE_INTERRUPT_H

enum { INTERRUPT_GRACE_SECONDS = 2 };

/* From here on the signals are noted. */
void interrupt_catch(void);
/* The signal that came; 0: none. */
int interrupt_signal(void);
/* "SIGTERM" */
const char *interrupt_name(int signal);

#endif
