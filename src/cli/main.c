#include "cli/cli.h"
#include "cli/commands.h"

int main(int argc, char **argv)
{
    static const struct cli_command commands[] = {
        {"serve", "Run the registry", command_serve},
        {"check", "Verify a store: every digest, every reference", command_check},
        {"config", "Check, show and explain the settings", command_config},
        {"version", "Print the release and the libraries in use", command_version},
    };
    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        return command_version(1, argv + 1);
    return cli_dispatch("orlop", "An OCI container registry.", commands, sizeof(commands) / sizeof(commands[0]), argc,
                        argv);
}
