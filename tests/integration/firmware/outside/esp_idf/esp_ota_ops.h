#pragma once
#include <stdio.h>
typedef int esp_err_t;
static inline esp_err_t esp_ota_mark_app_valid_cancel_rollback(void) { puts("[outside] valid"); return 0; }
static inline esp_err_t esp_ota_mark_app_invalid_rollback_and_reboot(void) { puts("[outside] invalid"); return -1; }
