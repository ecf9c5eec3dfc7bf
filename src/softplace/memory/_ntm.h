// The memory of a Neural Turing Machine, one step of one sample, and its gradient. `ntm.py` is the reference.

#pragma once
#include "_job.h"

struct Ntm {
  Index N, np, M, R, W, K, S, k;
  int map;
  bool read_first;
  Index keys, strengths, gates, shifts, sharpness, erase, added, columns;  // of the interface
  Index memory, weights, found, similarity, inverse, size;  // of the record
  std::vector<Range> ranges;
  Index carried, spare, bulk = 0;

  explicit Ntm(const Job& j) : N(j.slots), np(padded(j.slots)), M(j.width), R(j.reads), W(j.writes), K(R + W), S(j.shifts), k(S / 2),
                               map((int)j.map), read_first(j.flags & READ_FIRST) {
    keys = 0, strengths = K * M, gates = strengths + K, shifts = gates + K, sharpness = shifts + K * S, erase = sharpness + K;
    added = erase + W * M, columns = added + W * M;
    ranges = {{strengths, K, SOFTPLUS, 1}, {gates, K, SIGMOID, 1}, {shifts, K * S, SOFTMAXES, S}, {sharpness, K, ONEPLUS, 1}, {erase, W * M, SIGMOID, 1}};
    memory = 0, weights = M * np, found = weights + K * np, similarity = found + K * np, inverse = similarity + K * np, size = inverse + K * np;
    carried = M * np + K * np;
    spare = 4 * np + 2 * (np + 2 * k + 2 * WIDTH);
  }
  void start(const Job& j, Index sample, float* own, float*) const {
    turn_in(j.state[0] + sample * N * M, N, M, np, own + memory);
    pad_in(j.state[1] + sample * K * N, K, N, np, own + weights);
  }
  void finish(const Job& j, Index sample, const float* own, const float*) const {
    turn_out(own + memory, N, M, np, j.state_out[0] + sample * N * M);
    pad_out(own + weights, K, N, np, j.state_out[1] + sample * K * N);
  }
  void begin(const Job& j, Index sample, float* carry) const {
    turn_in(j.dstate_out[0] + sample * N * M, N, M, np, carry);
    pad_in(j.dstate_out[1] + sample * K * N, K, N, np, carry + M * np);
  }
  void end(const Job& j, Index sample, const float* carry) const {
    turn_out(carry, N, M, np, j.dstate[0] + sample * N * M);
    pad_out(carry + M * np, K, N, np, j.dstate[1] + sample * K * N);
  }
  // interpolated weights, with k more at both ends, as the slots are a circle
  void interpolate(const float* prev, const float* own, const float* face, Index h, float* circle) const {
    const float *before = prev + weights + h * np, *content = own + found + h * np;
    float gate = face[gates + h];
    for (Index j = 0; j < np; j += WIDTH)
      store(circle + k + j, load(before + j) + gate * (load(content + j) - load(before + j)));
    close(circle);
  }
  void close(float* circle) const {
    for (Index q = 0; q < k; q++) circle[k + N + q] = circle[k + q % N], circle[k - 1 - q] = circle[k + N - 1 - q % N];
    clear(circle + N + 2 * k, np - N);  // what is read beside it must be a number
  }
  void shift(const float* circle, const float* share, float* shifted) const {  // share[j] moves by j - k
    for (Index i = 0; i < np; i += WIDTH) {
      V sum{};
      for (Index j = 0; j < S; j++) sum += load(circle + 2 * k - j + i) * share[j];
      store(shifted + i, sum);
    }
    for (Index i = N; i < np; i++) shifted[i] = 0.0f;
  }
  void address(const float* memory, const float* prev, float* own, const float* face, Index h, float* spare) const {
    Found f{own + similarity + h * np, own + inverse + h * np, own + found + h * np};
    float *shifted = spare, *circle = spare + 4 * np;
    find(map, memory, face + keys + h * M, nullptr, face[strengths + h], M, {N, np}, f, spare);
    interpolate(prev, own, face, h, circle);
    shift(circle, face + shifts + h * S, shifted);
    sharpen(shifted, face[sharpness + h], own + weights + h * np, np);
  }
  void relink(const float*, const float*, const float*, float*) const {}
  void step(const float* prev, float* own, float*, const float* face, float* reads, float* spare) const {
    const float* before = prev + memory;
    auto look_at = [&](const float* memory) {
      for (Index h = 0; h < R; h++) {
        address(memory, prev, own, face, h, spare);
        read(memory, own + weights + h * np, M, np, reads + h * M);
      }
    };
    if (read_first) look_at(before);
    for (Index h = R; h < K; h++) address(before, prev, own, face, h, spare);
    write(before, own + weights + R * np, face + erase, face + added, W, M, np, own + memory);
    if (!read_first) look_at(own + memory);
  }
  // dweights: of this step's weights, becomes that of the step before.
  void unaddress(const float* memory, const float* prev, const float* own, const float* face, Index h, float* dmemory, float* dweights, float* dface, float* spare) const {
    const float *share = face + shifts + h * S, *before = prev + weights + h * np, *content = own + found + h * np;
    float *shifted = spare, *d = spare + np, *more = spare + 2 * np, *circle = spare + 4 * np, *dcircle = circle + np + 2 * k + 2 * WIDTH;
    interpolate(prev, own, face, h, circle);
    shift(circle, share, shifted);
    float* dshifted = dcircle + k;
    dface[sharpness + h] += unsharpen(shifted, face[sharpness + h], own + weights + h * np, dweights, dshifted, np);
    for (Index j = 0; j < S; j++) {
      V sum{};
      for (Index i = 0; i < np; i += WIDTH) sum += load(dshifted + i) * load(circle + 2 * k - j + i);
      dface[shifts + h * S + j] += total(sum);
    }
    close(dcircle);
    float gate = face[gates + h];
    V along{};
    for (Index i = 0; i < np; i += WIDTH) {
      V sum{};
      for (Index j = 0; j < S; j++) sum += load(dcircle + j + i) * share[j];
      store(d + i, sum);
    }
    for (Index i = N; i < np; i++) d[i] = 0.0f;
    for (Index i = 0; i < np; i += WIDTH) {
      V g = load(d + i);
      along += g * (load(content + i) - load(before + i));
      store(dweights + i, g * (1.0f - gate));
      store(d + i, g * gate);
    }
    dface[gates + h] += total(along);
    Found f{(float*)own + similarity + h * np, (float*)own + inverse + h * np, (float*)content};
    unfind(map, memory, face + keys + h * M, nullptr, face[strengths + h], M, {N, np}, f, d, dmemory, dface + keys + h * M, nullptr, dface + strengths + h, more);
  }
  void unstep(const float* prev, const float* own, const float*, const float*, const float* face, const float* dreads, float* dface, float* carry, float* spare) const {
    float *dmemory = carry, *dweights = carry + M * np;
    const float* before = prev + memory;
    auto unlook = [&](const float* memory) {
      for (Index h = 0; h < R; h++) {
        unread(memory, own + weights + h * np, dreads + h * M, M, np, dmemory, dweights + h * np);
        unaddress(memory, prev, own, face, h, dmemory, dweights + h * np, dface, spare);
      }
    };
    if (!read_first) unlook(own + memory);
    unwrite(before, own + weights + R * np, face + erase, face + added, W, M, np, dmemory, dweights + R * np, dface + erase, dface + added);
    for (Index h = R; h < K; h++) unaddress(before, prev, own, face, h, dmemory, dweights + h * np, dface, spare);
    if (read_first) unlook(before);
  }
};
