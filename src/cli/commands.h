/*
 * The subcommands, one file each.
 */
#ifndef ORLOP_CLI_COMMANDS_H
#define ORLOP_CLI_COMMANDS_H

/* argv[0] is the subcommand's name; each returns an enum cli_exit. */
int command_serve(int argc, char **argv);
int command_check(int argc, char **argv);
int command_config(int argc, char **argv);
int command_version(int argc, char **argv);

#endif
