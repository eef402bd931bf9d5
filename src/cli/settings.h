/*
 * From the configuration to what the layers below want to know.
 */
#ifndef ORLOP_CLI_SETTINGS_H
#define ORLOP_CLI_SETTINGS_H

#include "base/log.h"
#include "cli/config.h"
#include "http/server.h"

/* What concerns more than one setting, or needs more than bounds. ERR_INVALID names where the value stands. */
must_check enum err_code settings_check(const struct config *config, struct err *err);
/* As settings_check for the store's location alone. */
must_check enum err_code settings_check_store(const struct config *config, struct err *err);

/* The texts stay config's. */
struct http_settings settings_http(const struct config *config);
struct registry_settings settings_registry(const struct config *config);
enum auth_anonymous settings_anonymous(const struct config *config);
enum log_level settings_log_level(const struct config *config);
enum log_format settings_log_format(const struct config *config);

#endif
