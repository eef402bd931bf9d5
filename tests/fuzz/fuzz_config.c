/*
 * Configuration files: what is refused is refused with a message that begins with the file's name; what is accepted lies
 * within its bounds, and each value, written as `config show` does, means the same.
 */
#include "cli/config.h"
#include "fuzz.h"

#define FILE_NAME "orlop.yaml"
#define VALUE_BYTES_MAX 8192

static void check_value(const struct config *config, enum setting setting)
{
    const struct setting_info *info = setting_info(setting);
    const struct config_value *value = &config->values[setting];
    if (info->type == CONFIG_TEXT)
        assert(strlen(value->text) >= info->min && strlen(value->text) <= info->max);
    else if (info->type != CONFIG_CHOICE)
        assert(value->number >= info->min && value->number <= info->max);

    struct err err = ERR_INIT;
    auto_buf shown = BUF_INIT(VALUE_BYTES_MAX);
    auto_config again = {0};
    assert(config_append_value(&shown, config, setting));
    assert(config_init(&again, &err) == ERR_OK);
    assert(config_set(&again, setting, buf_str(&shown), ORIGIN_FLAG, 0, &err) == ERR_OK);
    assert(again.values[setting].number == value->number);
    if (info->type == CONFIG_TEXT)
        assert(strcmp(again.values[setting].text, value->text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err err = ERR_INIT;
    auto_config config = {0};
    if (config_init(&config, &err) != ERR_OK)
        return 0;
    enum err_code code = config_read_yaml(&config, FILE_NAME, fuzz_text(data, size), &err);
    if (code != ERR_OK) {
        assert(code == ERR_INVALID && strncmp(err.message, FILE_NAME, strlen(FILE_NAME)) == 0);
        return 0;
    }
    for (enum setting setting = 0; setting < SETTING_COUNT; setting++)
        if (config.values[setting].origin == ORIGIN_FILE)
            check_value(&config, setting);
    return 0;
}
