// The memory of a Differentiable Neural Computer with one write head, one step of one sample, and its gradient.
// `dnc.py` is the reference; the letters in the comments are those of `_reference_dnc.py`.

#pragma once
#include "_job.h"

struct Dnc {
  Index N, np, M, R;
  int map;
  bool masked, deallocate, detached, linked, sharpened;
  Index keys, strengths, key, strength, erase, added, free_gates, allocation_gate, write_gate, modes, masks, mask, forward_sharpness,
      backward_sharpness, columns;  // of the interface
  Index memory, usage, precedence, read_weights, write_weights, allocation, order, similarity, inverse, found, along, sharp, size;
  std::vector<Range> ranges;
  Index carried, spare, bulk;  // bulk: the links, of which the tape has not every step's

  explicit Dnc(const Job& j) : N(j.slots), np(padded(j.slots)), M(j.width), R(j.reads), map((int)j.map), masked(j.flags & MASKED),
                               deallocate(j.flags & DEALLOCATE), detached(j.flags & DETACHED), linked(j.flags & LINKED),
                               sharpened(j.flags & SHARPENED) {
    Index at = 0;
    auto take = [&](Index count, Squash kind = LINEAR, Index group = 1) {
      if (kind != LINEAR) ranges.push_back({at, count, kind, group});
      return std::exchange(at, at + count);
    };
    keys = take(R * M), strengths = take(R, ONEPLUS), key = take(M), strength = take(1, ONEPLUS), erase = take(M, SIGMOID), added = take(M);
    free_gates = take(R, SIGMOID), allocation_gate = take(1, SIGMOID), write_gate = take(1, SIGMOID);
    modes = linked ? take(3 * R, SOFTMAXES, 3) : 0;
    masks = masked ? take(R * M, MASK) : 0, mask = masked ? take(M, MASK) : 0;
    forward_sharpness = sharpened ? take(R, ONEPLUS) : 0, backward_sharpness = sharpened ? take(R, ONEPLUS) : 0;
    columns = std::exchange(at, 0);
    memory = take(M * np), usage = take(np), precedence = take(np), read_weights = take(R * np);
    write_weights = take(np), allocation = take(np), order = take(np);
    similarity = take((R + 1) * np), inverse = take((R + 1) * np), found = take((R + 1) * np);  // the write head last
    along = take(linked ? 2 * R * np : 0), sharp = take(sharpened ? 2 * R * np : 0);  // forward, then backward
    size = at, bulk = linked ? N * np : 0;
    carried = M * np + (linked ? N * np : 0) + (3 + R) * np;
    spare = (10 + 5 * R) * np + M * np;
  }
  Index fields(const Job& j, Index f) const {  // numbers of a field of the state
    const Index counts[] = {N * M, N, N, linked ? N * N : 0, R * N, N};
    return counts[f];
  }
  template <class Pointers> void take_in(const Job& j, const Pointers& from, Index sample, float* memory, float* usage, float* precedence, float* links, float* reads, float* writes) const {
    auto field = [&](Index f) { return from[f] + sample * fields(j, f); };
    turn_in(field(0), N, M, np, memory);
    pad_in(field(1), 1, N, np, usage), pad_in(field(2), 1, N, np, precedence);
    if (linked) pad_in(field(3), N, N, np, links);
    pad_in(field(4), R, N, np, reads), pad_in(field(5), 1, N, np, writes);
  }
  template <class Pointers> void give_out(const Job& j, const Pointers& to, Index sample, const float* memory, const float* usage, const float* precedence, const float* links, const float* reads, const float* writes) const {
    auto field = [&](Index f) { return to[f] + sample * fields(j, f); };
    turn_out(memory, N, M, np, field(0));
    pad_out(usage, 1, N, np, field(1)), pad_out(precedence, 1, N, np, field(2));
    if (linked) pad_out(links, N, N, np, field(3));
    pad_out(reads, R, N, np, field(4)), pad_out(writes, 1, N, np, field(5));
  }
  void start(const Job& j, Index s, float* o, float* links) const { take_in(j, j.state, s, o + memory, o + usage, o + precedence, links, o + read_weights, o + write_weights); }
  void finish(const Job& j, Index s, const float* o, const float* links) const { give_out(j, j.state_out, s, o + memory, o + usage, o + precedence, links, o + read_weights, o + write_weights); }
  struct Carry { float *memory, *links, *usage, *precedence, *writes, *reads; };
  Carry carry(float* c) const {
    float *links = c + M * np, *usage = links + (linked ? N * np : 0);
    return {c, links, usage, usage + np, usage + 2 * np, usage + 3 * np};
  }
  void begin(const Job& j, Index s, float* c) const { Carry d = carry(c); take_in(j, j.dstate_out, s, d.memory, d.usage, d.precedence, d.links, d.reads, d.writes); }
  void end(const Job& j, Index s, float* c) const { Carry d = carry(c); give_out(j, j.dstate, s, d.memory, d.usage, d.precedence, d.links, d.reads, d.writes); }

  void retention(const float* prev, const float* face, float* psi) const {  // (b)
    for (Index j = 0; j < np; j += WIDTH) {
      V kept = fill(1.0f);
      for (Index r = 0; r < R; r++) kept *= 1.0f - load(prev + read_weights + r * np + j) * face[free_gates + r];
      store(psi + j, kept);
    }
  }
  void sort(const float* u, int32_t* order) const {  // slots by usage, the least first
    for (Index i = 0; i < N; i++) order[i] = (int32_t)i;  // stays a choice of slots where a usage is NaN
    if (N > 512) {
      std::stable_sort(order, order + N, [&](int32_t a, int32_t b) { return u[a] < u[b]; });
      return;
    }
    I iota;
    for (int i = 0; i < WIDTH; i++) iota[i] = i;
    for (Index i = 0; i < N; i++) {
      V own = fill(u[i]), count{};
      for (Index j = 0; j < np; j += WIDTH) {
        V other = load(u + j);
        I first = (other < own) | ((other == own) & (iota + (int32_t)j < (int32_t)i));
        first &= iota + (int32_t)j < (int32_t)N;
        count += choose(first, fill(1.0f), V{});
      }
      order[(Index)total(count)] = (int32_t)i;
    }
  }
  const float* head_mask(const float* face, Index h) const { return !masked ? nullptr : face + (h < R ? masks + h * M : mask); }
  Found head(const float* own, Index h) const {
    float* o = (float*)own;
    return {o + similarity + h * np, o + inverse + h * np, o + found + h * np};
  }
  void step(const float* prev, float* own, float* links, const float* face, float* reads, float* spare) const {
    float *psi = spare, *more = spare + np, *before = spare + 6 * np;
    retention(prev, face, psi);
    const float *u = own + usage, *w = own + write_weights;
    for (Index j = 0; j < np; j += WIDTH) {  // (c)
      V used = load(prev + usage + j), written = load(prev + write_weights + j);
      store(own + usage + j, (used + (1.0f - used) * written) * load(psi + j));
    }
    auto* sorted = (int32_t*)(own + order);
    sort(u, sorted);
    V bad{};
    for (Index j = 0; j < np; j += WIDTH) bad += load(u + j) * 0.0f;
    float left = 1.0f, fault = total(bad);  // NaN where a usage is: then the order is no order, and all is NaN
    for (Index j = 0; j < np; j++) own[allocation + j] = j < N ? fault : 0.0f;
    for (Index j = 0; j < N; j++) own[allocation + sorted[j]] = (1.0f - u[sorted[j]]) * left + fault, left *= u[sorted[j]];  // (d)
    find(map, prev + memory, face + key, head_mask(face, R), face[strength], M, {N, np}, head(own, R), more);
    float share = face[allocation_gate], gate = face[write_gate];
    for (Index j = 0; j < np; j += WIDTH)  // (e)
      store(own + write_weights + j, gate * (share * load(own + allocation + j) + (1.0f - share) * load(own + found + R * np + j)));
    const float* old = prev + memory;
    if (deallocate) emptied(old, psi, before), old = before;
    write(old, w, face + erase, face + added, 1, M, np, own + memory);  // (f)
    if (linked) {
      link(prev, own, links);
      V sum{};
      for (Index j = 0; j < np; j += WIDTH) sum += load(w + j);
      float rest = std::max(1.0f - total(sum), 0.0f);
      for (Index j = 0; j < np; j += WIDTH) store(own + precedence + j, rest * load(prev + precedence + j) + load(w + j));  // (g)
    } else memcpy(own + precedence, prev + precedence, np * sizeof(float));
    for (Index r = 0; r < R; r++) {  // (j), (k)
      float* weights = own + read_weights + r * np;
      const float* content = own + found + r * np;
      find(map, own + memory, face + keys + r * M, head_mask(face, r), face[strengths + r], M, {N, np}, head(own, r), more);
      if (linked) {
        const float *forward = own + along + r * np, *backward = forward + R * np, *mode = face + modes + 3 * r;
        if (sharpened) {
          float* to = own + sharp + r * np;
          lift(forward, more), ::sharpen(more, face[forward_sharpness + r], to, np);
          lift(backward, more), ::sharpen(more, face[backward_sharpness + r], to + R * np, np);
          forward = to, backward = to + R * np;
        }
        for (Index j = 0; j < np; j += WIDTH)
          store(weights + j, mode[0] * load(backward + j) + mode[1] * load(content + j) + mode[2] * load(forward + j));
      } else memcpy(weights, content, np * sizeof(float));
      read(own + memory, weights, M, np, reads + r * M);
    }
  }
  void lift(const float* direction, float* to) const {
    for (Index j = 0; j < np; j += WIDTH) store(to + j, load(direction + j) + NEAR);
    for (Index j = N; j < np; j++) to[j] = 0.0f;
  }
  void emptied(const float* memory, const float* psi, float* to) const {
    for (Index m = 0; m < M; m++)
      for (Index j = 0; j < np; j += WIDTH) store(to + m * np + j, load(memory + m * np + j) * load(psi + j));
  }
  // (h) and (i): links row by row, and for all read heads the sums along rows (forward) and down columns (backward).
  void link(const float* prev, float* own, float* links) const {
    const float *w = own + write_weights, *p = prev + precedence, *reading = prev + read_weights;
    float *forward = own + along, *backward = forward + R * np;
    clear(forward, 2 * R * np);
    for (Index r0 = 0; r0 < R; r0 += 4) {
      int heads = (int)std::min<Index>(4, R - r0);
      switch (heads) {
        case 1: rows<1>(links, w, p, reading + r0 * np, forward + r0 * np, backward + r0 * np, r0 == 0); break;
        case 2: rows<2>(links, w, p, reading + r0 * np, forward + r0 * np, backward + r0 * np, r0 == 0); break;
        case 3: rows<3>(links, w, p, reading + r0 * np, forward + r0 * np, backward + r0 * np, r0 == 0); break;
        default: rows<4>(links, w, p, reading + r0 * np, forward + r0 * np, backward + r0 * np, r0 == 0);
      }
    }
  }
  // The links alone, from those of the step before.
  void relink(const float* prev, const float* own, const float* before, float* links) const {
    const float *w = own + write_weights, *p = prev + precedence;
    for (Index i = 0; i < N; i++) {
      for (Index j = 0; j < np; j += WIDTH)
        store(links + i * np + j, load(before + i * np + j) * (1.0f - w[i] - load(w + j)) + w[i] * load(p + j));
      links[i * np + i] = 0.0f;
    }
  }
  template <int HEADS> void rows(float* links, const float* w, const float* p, const float* reading, float* forward, float* backward, bool update) const {
    Index i = 0;
    for (; i + 4 <= N; i += 4) some_rows<HEADS, 4>(i, links, w, p, reading, forward, backward, update);
    for (; i < N; i++) some_rows<HEADS, 1>(i, links, w, p, reading, forward, backward, update);
  }
  template <int HEADS, int ROWS> void some_rows(Index i, float* links, const float* w, const float* p, const float* reading, float* forward, float* backward, bool update) const {
    float* row = links + i * np;
    V ahead[ROWS][HEADS] = {};
    if (update) for (int q = 0; q < ROWS; q++)
      for (Index j = 0; j < np; j += WIDTH)
        store(row + q * np + j, load(row + q * np + j) * (1.0f - w[i + q] - load(w + j)) + w[i + q] * load(p + j));
    for (int q = 0; q < ROWS; q++) row[q * np + i + q] = 0.0f;
    for (Index j = 0; j < np; j += WIDTH) {
      V behind[HEADS], share[HEADS];
      for (int r = 0; r < HEADS; r++) behind[r] = load(backward + r * np + j), share[r] = load(reading + r * np + j);
      for (int q = 0; q < ROWS; q++) {
        V v = load(row + q * np + j);
        for (int r = 0; r < HEADS; r++) ahead[q][r] += v * share[r], behind[r] += v * reading[r * np + i + q];
      }
      for (int r = 0; r < HEADS; r++) store(backward + r * np + j, behind[r]);
    }
    for (int q = 0; q < ROWS; q++)
      for (int r = 0; r < HEADS; r++) forward[r * np + i + q] = total(ahead[q][r]);
  }
  // dlinks: of the links after, becomes that of the links before.
  template <int HEADS> void unrows(const float* prev, const float* own, const float* links_before, const float* links, const float* reading, const float* dforward, const float* dbackward, float* dlinks, float* dreads, float* dw, float* dp, bool last) const {
    const float *w = own + write_weights, *p = prev + precedence;
    Index i = 0;
    for (; i + 2 <= N; i += 2) some_unrows<HEADS, 2>(i, links_before, links, w, p, reading, dforward, dbackward, dlinks, dreads, dw, dp, last);
    for (; i < N; i++) some_unrows<HEADS, 1>(i, links_before, links, w, p, reading, dforward, dbackward, dlinks, dreads, dw, dp, last);
  }
  template <int HEADS, int ROWS> void some_unrows(Index i, const float* links_before, const float* links, const float* w, const float* p, const float* reading, const float* dforward, const float* dbackward, float* dlinks, float* dreads, float* dw, float* dp, bool last) const {
    const float *row = links + i * np, *before = links_before + i * np;
    float* d = dlinks + i * np;
    V back[ROWS][HEADS] = {}, change[ROWS] = {};
    for (Index j = 0; j < np; j += WIDTH) {
      V g[ROWS], v[ROWS];
      for (int q = 0; q < ROWS; q++) g[q] = load(d + q * np + j), v[q] = load(row + q * np + j);
      for (int r = 0; r < HEADS; r++) {
        V db = load(dbackward + r * np + j), share = load(reading + r * np + j), dshare = load(dreads + r * np + j);
        for (int q = 0; q < ROWS; q++) {
          g[q] += dforward[r * np + i + q] * share + db * reading[r * np + i + q];
          back[q][r] += v[q] * db, dshare += v[q] * dforward[r * np + i + q];
        }
        store(dreads + r * np + j, dshare);
      }
      if (last) {
        V dwj = load(dw + j), dpj = load(dp + j), pj = load(p + j), rest = 1.0f - load(w + j);
        for (int q = 0; q < ROWS; q++) {
          if (i + q >= j && i + q < j + WIDTH) g[q][i + q - j] = 0.0f;
          V old = load(before + q * np + j);
          change[q] += g[q] * (pj - old);
          dwj -= g[q] * old, dpj += g[q] * w[i + q];
          g[q] *= rest - w[i + q];
        }
        store(dw + j, dwj), store(dp + j, dpj);
      }
      for (int q = 0; q < ROWS; q++) store(d + q * np + j, g[q]);
    }
    for (int q = 0; q < ROWS; q++) {
      for (int r = 0; r < HEADS; r++) dreads[r * np + i + q] += total(back[q][r]);
      if (last) dw[i + q] += total(change[q]);
    }
  }
  void unstep(const float* prev, const float* own, const float* links_before, const float* links, const float* face, const float* dreads, float* dface, float* c, float* spare) const {
    Carry d = carry(c);
    float *psi = spare, *dpsi = psi + np, *dw = dpsi + np, *dp = dw + np, *more = dp + np, *before = spare + 10 * np, *dfound = before + M * np,
          *dalong = dfound + R * np, *dpast = dalong + 2 * R * np;
    const float* w = own + write_weights;
    retention(prev, face, psi);
    clear(dpsi, np), clear(dpast, R * np);
    memcpy(dw, d.writes, np * sizeof(float));
    for (Index r = 0; r < R; r++) {
      float *dweights = d.reads + r * np, *content = dfound + r * np;
      unread(own + memory, own + read_weights + r * np, dreads + r * M, M, np, d.memory, dweights);
      if (!linked) { memcpy(content, dweights, np * sizeof(float)); continue; }
      const float *forward = own + (sharpened ? sharp : along) + r * np, *backward = forward + R * np, *mode = face + modes + 3 * r;
      float* dmode = dface + modes + 3 * r;
      dmode[0] += dot(dweights, backward, np), dmode[1] += dot(dweights, own + found + r * np, np), dmode[2] += dot(dweights, forward, np);
      float *dforward = dalong + r * np, *dbackward = dforward + R * np;
      for (Index j = 0; j < np; j += WIDTH) {
        V g = load(dweights + j);
        store(dforward + j, g * mode[2]), store(dbackward + j, g * mode[0]), store(content + j, g * mode[1]);
      }
      if (sharpened) {
        const float* raw = own + along + r * np;
        lift(raw, more), dface[forward_sharpness + r] += unsharpen(more, face[forward_sharpness + r], forward, dforward, dforward, np);
        lift(raw + R * np, more), dface[backward_sharpness + r] += unsharpen(more, face[backward_sharpness + r], backward, dbackward, dbackward, np);
      }
    }
    for (Index r = 0; r < R; r++) look_back(own + memory, own, face, r, dfound + r * np, d.memory, dface, more);
    if (linked) {
      float sum = dot(d.precedence, prev + precedence, np);
      V written{};
      for (Index j = 0; j < np; j += WIDTH) written += load(w + j);
      float rest = std::max(1.0f - total(written), 0.0f);
      if (rest == 0.0f) sum = 0.0f;
      for (Index j = 0; j < np; j += WIDTH) {
        V g = load(d.precedence + j);
        store(dw + j, load(dw + j) + g - sum), store(dp + j, rest * g);
      }
      unlink(prev, own, links_before, links, dalong, d.links, dpast, dw, dp);
      for (Index j = N; j < np; j++) dw[j] = dp[j] = 0.0f;
      memcpy(d.precedence, dp, np * sizeof(float));
    }
    const float* old = prev + memory;
    if (deallocate) emptied(old, psi, before), old = before;
    unwrite(old, w, face + erase, face + added, 1, M, np, d.memory, dw, dface + erase, dface + added);
    if (deallocate) for (Index m = 0; m < M; m++)
      for (Index j = 0; j < np; j += WIDTH) {
        V g = load(d.memory + m * np + j);
        store(dpsi + j, load(dpsi + j) + g * load(prev + memory + m * np + j));
        store(d.memory + m * np + j, g * load(psi + j));
      }
    float share = face[allocation_gate], gate = face[write_gate], *da = dp, *dcontent = dfound;
    V dshare{}, dgate{};
    for (Index j = 0; j < np; j += WIDTH) {
      V g = load(dw + j), a = load(own + allocation + j), content = load(own + found + R * np + j);
      dgate += g * (share * a + (1.0f - share) * content), dshare += g * (a - content);
      store(da + j, g * (gate * share)), store(dcontent + j, g * (gate * (1.0f - share)));
    }
    dface[write_gate] += total(dgate), dface[allocation_gate] += gate * total(dshare);
    look_back(prev + memory, own, face, R, dcontent, d.memory, dface, more);
    unallocate(own, da, d.usage, more);
    for (Index j = 0; j < np; j += WIDTH) {
      V g = load(d.usage + j), kept = load(psi + j), used = load(prev + usage + j), written = load(prev + write_weights + j);
      store(dpsi + j, load(dpsi + j) + g * (used + (1.0f - used) * written));
      store(d.usage + j, g * kept * (1.0f - written));
      store(d.writes + j, detached ? V{} : g * kept * (1.0f - used));
    }
    for (Index r = 0; r < R; r++) {
      V dfree{};
      for (Index j = 0; j < np; j += WIDTH) {
        V g = load(dpsi + j), reading = load(prev + read_weights + r * np + j);
        for (Index other = 0; other < R; other++)
          if (other != r) g *= 1.0f - load(prev + read_weights + other * np + j) * face[free_gates + other];
        dfree -= g * reading;
        store(d.reads + r * np + j, load(dpast + r * np + j) - g * face[free_gates + r]);
      }
      dface[free_gates + r] += total(dfree);
    }
  }
  void look_back(const float* memory, const float* own, const float* face, Index h, float* dfound, float* dmemory, float* dface, float* spare) const {
    Index k = h < R ? keys + h * M : key, s = h < R ? strengths + h : strength, m = h < R ? masks + h * M : mask;
    unfind(map, memory, face + k, head_mask(face, h), face[s], M, {N, np}, head(own, h), dfound, dmemory, dface + k, dface + m, dface + s, spare);
  }
  void unlink(const float* prev, const float* own, const float* links_before, const float* links, const float* dalong, float* dlinks, float* dpast, float* dw, float* dp) const {
    for (Index r0 = 0; r0 < R; r0 += 4) {
      const float *f = dalong + r0 * np, *b = f + R * np, *reading = prev + read_weights + r0 * np;
      bool last = r0 + 4 >= R;
      switch ((int)std::min<Index>(4, R - r0)) {
        case 1: unrows<1>(prev, own, links_before, links, reading, f, b, dlinks, dpast + r0 * np, dw, dp, last); break;
        case 2: unrows<2>(prev, own, links_before, links, reading, f, b, dlinks, dpast + r0 * np, dw, dp, last); break;
        case 3: unrows<3>(prev, own, links_before, links, reading, f, b, dlinks, dpast + r0 * np, dw, dp, last); break;
        default: unrows<4>(prev, own, links_before, links, reading, f, b, dlinks, dpast + r0 * np, dw, dp, last);
      }
    }
  }
  void unallocate(const float* own, const float* da, float* du, float* left) const {
    const float* u = own + usage;
    const auto* sorted = (const int32_t*)(own + order);
    float product = 1.0f, later = 0.0f;
    for (Index j = 0; j < N; j++) left[j] = product, product *= u[sorted[j]];
    for (Index j = N - 1; j >= 0; j--) {  // later: what a larger u[j] takes from those behind it, over the product so far
      Index i = sorted[j];
      du[i] += left[j] * (later - da[i]);
      later = da[i] * (1.0f - u[i]) + u[i] * later;
    }
  }
};
