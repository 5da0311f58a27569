/* The subcommands, one function each. All are collective on `world`. argv[0] is the subcommand's
 * name, its own arguments follow. A function prints what went wrong (rank 0) and returns the exit
 * code of this rank, enum exit_code. */
#ifndef AUTOLORA_COMMANDS_H
#define AUTOLORA_COMMANDS_H

#include <mpi.h>

int cmd_run(MPI_Comm world, int argc, char **argv);
int cmd_evaluate(MPI_Comm world, int argc, char **argv);
int cmd_predict(MPI_Comm world, int argc, char **argv);
int cmd_export(MPI_Comm world, int argc, char **argv);
int cmd_keys(MPI_Comm world, int argc, char **argv);
int cmd_info(MPI_Comm world, int argc, char **argv);

/* Version of this program, from git when it was built. */
const char *cmd_info_version(void);

#endif
