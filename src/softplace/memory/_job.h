// What Python hands over: sizes, and pointers to contiguous float32.

#pragma once
#include "_machine.h"

enum Flag { LSTM = 1, READ_FIRST = 2, MASKED = 4, DEALLOCATE = 8, DETACHED = 16, LINKED = 32, SHARPENED = 64 };
constexpr int MOST_LAYERS = 8, FIELDS = 9;  // of the memory, at most six; then reads, hidden, cell
struct Job {
  Index members, steps, batch, slots, width, reads, writes, hidden, layers, shifts, map, flags, threads, kept;
  const Index* lengths;  // (members, batch) or null
  const float* pre;  // (members, steps, batch, layers * gates)
  const float* recurrent[MOST_LAYERS];  // (members, gates, seen)
  const float *interface_weight, *interface_bias;
  const float* state[FIELDS];  // (members, batch, ...): of the memory first, then reads, hidden, cell
  float *hidden_out, *reads_out;  // (members, steps, batch, ...)
  float* state_out[FIELDS];
  float* tape;  // (members, batch, kept, record)
  const float *dhidden_out, *dreads_out;
  const float* dstate_out[FIELDS];
  float *dpre, *dinterface;
  float* seen[MOST_LAYERS];  // (members, steps, batch, seen): what each layer's matrix was multiplied with
  float* dstate[FIELDS];
};

// Between (slots, width) and (width, padded slots), and between rows of slots and of padded slots.
static void turn_in(const float* from, Index N, Index M, Index np, float* to) {
  for (Index m = 0; m < M; m++)
    for (Index n = 0; n < np; n++) to[m * np + n] = n < N ? from[n * M + m] : 0.0f;
}
static void turn_out(const float* from, Index N, Index M, Index np, float* to) {
  for (Index n = 0; n < N; n++)
    for (Index m = 0; m < M; m++) to[n * M + m] = from[m * np + n];
}
static void pad_in(const float* from, Index rows, Index N, Index np, float* to) {
  for (Index r = 0; r < rows; r++) memcpy(to + r * np, from + r * N, N * sizeof(float)), clear(to + r * np + N, np - N);
}
static void pad_out(const float* from, Index rows, Index N, Index np, float* to) {
  for (Index r = 0; r < rows; r++) memcpy(to + r * N, from + r * np, N * sizeof(float));
}
