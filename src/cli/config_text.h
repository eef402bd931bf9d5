/*
 * Settings for people: help, `orlop config show`, and the reference page. All append; overflow shows in out.
 */
#ifndef ORLOP_CLI_CONFIG_TEXT_H
#define ORLOP_CLI_CONFIG_TEXT_H

#include "cli/config.h"

/* Every setting by section: flag, default, bounds, prose. */
void config_append_help(struct buf *out);
void config_append_setting_help(struct buf *out, enum setting setting);
/* The settings in force as a YAML file, the origin of each as a comment. */
void config_append_yaml(struct buf *out, const struct config *config);
/* docs/settings.md. */
void config_append_reference(struct buf *out);
/* Words in lines of at most 80 columns, each begun with indent spaces. */
void config_append_wrapped(struct buf *out, size_t indent, const char *words);

#endif
