#pragma once
struct MotionSensor {
  int begin() { return 1; }
  int accelerationAvailable() { return 1; }
  int gyroscopeAvailable() { return 1; }
  int readAcceleration(float &x, float &y, float &z) { x = 0.1f, y = -0.2f, z = 0.98f; return 1; }
  int readGyroscope(float &x, float &y, float &z) { x = 1.0f, y = 2.0f, z = -3.0f; return 1; }
};
static MotionSensor IMU __attribute__((unused));
