// SPDX-License-Identifier: Apache-2.0
// Builds the world (clock, randomness, signals) and hands it to the command line.
#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <chrono>
#include <clocale>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <thread>

#include "cli.h"
#include "crypto/sign.h"
#include "seal/os_random.h"

namespace {

class SystemClock : public holdfast::Clock {
 public:
  holdfast::Time now() override {
    return {std::chrono::duration_cast<std::chrono::nanoseconds>(
                std::chrono::system_clock::now().time_since_epoch())
                .count()};
  }
  std::int64_t steady_ns() override {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  void sleep_ns(std::int64_t ns) override {
    std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
  }
};

// The one thing that a signal handler can reach.
holdfast::Stop stop;

// The first asks the command to end in order; the second ends at once. What was put stays and is
// used again either way.
extern "C" void on_signal(int) {
  if (stop.requested()) _exit(130);
  stop.request();
}

void handle_signals() {
  struct sigaction action{};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
  struct sigaction before{};
  sigaction(SIGHUP, nullptr, &before);
  if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);  // not under nohup
  std::signal(SIGPIPE, SIG_IGN);
}

// Fresh pages cost more than anything else done with them: memory that was had once is kept.
void keep_memory() {
  mallopt(M_MMAP_THRESHOLD, 64 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  mallopt(M_ARENA_MAX, 2);
}

// A missing descriptor 0, 1 or 2 would be given to the next file that is opened, and messages would
// go into it. Whether 0 was missing: what nobody gave is not an empty input.
bool open_standard_descriptors() {
  const bool stdin_closed = ::fcntl(STDIN_FILENO, F_GETFD) < 0;
  for (int fd = ::open("/dev/null", O_RDWR); fd >= 0 && fd <= 2;) fd = ::open("/dev/null", O_RDWR);
  return stdin_closed;
}

}  // namespace

int main(int argc, char** argv) {
  const bool stdin_closed = open_standard_descriptors();
  keep_memory();
  handle_signals();
  tzset();
  holdfast::start_crypto();
  SystemClock clock;
  holdfast::OsRandom random;
  return holdfast::run_command_line(argc, argv, {random, clock, stop, stdin_closed});
}
