/* The subcommands, one function each. All are collective on `world`. argv[0] is the subcommand's
 * name, its own arguments follow. What went wrong is in `problem` on every rank; main prints it. */
#ifndef AUTOLORA_COMMANDS_H
#define AUTOLORA_COMMANDS_H

#include "base/report.h"

#include <mpi.h>

void cmd_run(MPI_Comm world, int argc, char **argv, struct problem *problem);
void cmd_plan(MPI_Comm world, int argc, char **argv, struct problem *problem);
void cmd_evaluate(MPI_Comm world, int argc, char **argv, struct problem *problem);
void cmd_predict(MPI_Comm world, int argc, char **argv, struct problem *problem);
void cmd_export(MPI_Comm world, int argc, char **argv, struct problem *problem);
void cmd_spectrum(MPI_Comm world, int argc, char **argv, struct problem *problem);
void cmd_keys(MPI_Comm world, int argc, char **argv, struct problem *problem);
void cmd_info(MPI_Comm world, int argc, char **argv, struct problem *problem);

/* Version of this program, from git when it was built. */
const char *cmd_info_version(void);

#endif
