// A whole sequence of a controller with a memory, forward and backward, for float32 on a CPU.
//
// A thread takes a few samples of a member through all steps. Their controller's matrix products are done together, the
// memory of each alone. Each step of a sample leaves a record on the tape, from which the backward pass goes back.
// What the inputs add to the gates, the outputs, and the gradients of all matrices are matrix products over the whole
// sequence, which Python does (`_fused.py`).

#include <memory>
#include <new>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "_dnc.h"
#include "_ntm.h"

static void huge_pages(void* start, Index bytes) {  // the tape is walked through once, forward and back
#ifdef __linux__
  uintptr_t page = 1 << 21, first = ((uintptr_t)start + page - 1) / page * page, end = (uintptr_t)start + bytes;
  if (end > first + page) madvise((void*)first, (end - first) / page * page, MADV_HUGEPAGE);
#endif
}

// Numbers below 1e-38 become 0 in this thread meanwhile: what is left alone decays to there, at ten times the cost.
struct Flushed {
#ifdef __SSE__
  unsigned before = _mm_getcsr();
  Flushed() { _mm_setcsr(before | 0x8040); }
  ~Flushed() { _mm_setcsr(before); }
#endif
};

constexpr Index EVERY = 4;

// Room for a thread's work, not cleared, and kept for the next call: the system would clear fresh memory page by page.
static float* workroom(Index count) {
  thread_local std::unique_ptr<float[]> room;
  thread_local Index size = 0;
  if (count > size) {
    room.reset(), size = 0;
    room.reset(new (std::nothrow) float[count]);
    if (!room) return nullptr;
    size = count;
    huge_pages(room.get(), size * sizeof(float));
  }
  return room.get();
}

template <class Machine> struct Sequence {
  const Job& j;
  Machine machine;
  bool lstm;
  Index H, L, G, reads_size;
  Index seen_size[MOST_LAYERS], seen[MOST_LAYERS], gates[MOST_LAYERS], cell, hidden, face, reads, own, record;

  explicit Sequence(const Job& job) : j(job), machine(job), lstm(job.flags & LSTM), H(job.hidden), L(job.layers), G(lstm ? 4 * H : H), reads_size(job.reads * job.width) {
    Index at = 0;
    auto take = [&](Index count) { return std::exchange(at, at + padded(count)); };
    for (Index l = 0; l < L; l++) {
      seen_size[l] = reads_size + (lstm ? H : 0) + (l > 0 ? H : 0);
      seen[l] = take(seen_size[l]), gates[l] = take(G);
    }
    cell = take(lstm ? L * H : 0), hidden = take(L * H), face = take(machine.columns), reads = take(reads_size), own = take(machine.size);
    record = at % 1024 ? at : at + WIDTH;  // of two records a multiple of a page apart the same places would collide in the cache
  }
  static constexpr Index READS = FIELDS - 3, HIDDEN = FIELDS - 2, CELL = FIELDS - 1;
  // Of a sample: its records, then what is too big for them: as it is now, and as it was every few steps.
  Index bulks() const { return machine.bulk ? 1 + (j.kept + EVERY - 1) / EVERY : 0; }
  Index tape_size() const { return j.kept * record + bulks() * machine.bulk; }
  float* tape(Index sample, Index t) const { return j.tape + sample * tape_size() + t % j.kept * record; }
  float* bulk(Index sample, Index number) const { return j.tape + sample * tape_size() + j.kept * record + number * machine.bulk; }
  bool keeps() const { return j.kept > j.steps; }
  Index length(Index sample) const { return j.lengths ? std::max<Index>(0, std::min(j.lengths[sample], j.steps)) : j.steps; }
  Index row(Index sample, Index t) const { return (sample / j.batch * j.steps + t) * j.batch + sample % j.batch; }

  // Members' samples in groups, so many that all threads have work.
  int group_size() const {
    Index groups = std::max<Index>(1, (j.threads + j.members - 1) / j.members);
    return (int)std::max<Index>(1, std::min<Index>(GROUP, (j.batch + groups - 1) / groups));
  }
  template <class F> bool groups(F work) const {  // whether there was memory for all
    int failed = 0, size = group_size();
    Index each = (j.batch + size - 1) / size, all = j.members * each;
#pragma omp parallel for schedule(dynamic, 1) num_threads((int)j.threads) reduction(| : failed) if (j.threads > 1 && all > 1)
    for (Index g = 0; g < all; g++) {
      Flushed flushed;
      Index member = g / each, first = g % each * size;
      failed |= !work(member, member * j.batch + first, (int)std::min<Index>(size, j.batch - first));
    }
    return !failed;
  }
  bool forward() const {
    huge_pages(j.tape, j.members * j.batch * tape_size() * sizeof(float));
    return groups([&](Index member, Index first, int count) {
      float* p = workroom(packed_room() + machine.spare);
      if (!p) return false;
      Packed recurrent[MOST_LAYERS], interface;
      for (Index l = 0; l < L; l++) {
        recurrent[l].pack(j.recurrent[l] + member * G * seen_size[l], G, seen_size[l], false, p);
        p += Packed::room(G, seen_size[l]);
      }
      interface.pack(j.interface_weight + member * machine.columns * L * H, machine.columns, L * H, false, p);
      float* spare = p + Packed::room(machine.columns, L * H);
      for (int b = 0; b < count; b++) start(first + b);
      for (Index t = 0; t < j.steps; t++) {
        const float *prev[GROUP], *from[GROUP];
        float *now[GROUP], *to[GROUP];
        int live = 0;
        Index who[GROUP];
        for (int b = 0; b < count; b++) {
          Index s = first + b, at = row(s, t);
          if (t < length(s)) who[live] = s, prev[live] = tape(s, t), now[live++] = tape(s, t + 1);
          else clear(j.hidden_out + at * L * H, L * H), clear(j.reads_out + at * reads_size, reads_size);
        }
        for (Index l = 0; l < L && live; l++) {
          for (int b = 0; b < live; b++) {
            float *z = now[b] + seen[l], *g = now[b] + gates[l];
            memcpy(z, prev[b] + reads, reads_size * sizeof(float));
            if (lstm) memcpy(z + reads_size, prev[b] + hidden + l * H, H * sizeof(float));
            if (l > 0) memcpy(z + seen_size[l] - H, now[b] + hidden + (l - 1) * H, H * sizeof(float));
            memcpy(g, j.pre + row(who[b], t) * L * G + l * G, G * sizeof(float));
            from[b] = z, to[b] = g;
          }
          multiply(recurrent[l], live, from, to);
          for (int b = 0; b < live; b++) control(prev[b], now[b], l);
        }
        for (int b = 0; b < live; b++) {
          memcpy(now[b] + face, j.interface_bias + member * machine.columns, machine.columns * sizeof(float));
          from[b] = now[b] + hidden, to[b] = now[b] + face;
        }
        if (live) multiply(interface, live, from, to);
        for (int b = 0; b < live; b++) {
          squash(machine.ranges, now[b] + face);
          if (machine.bulk && keeps() && t % EVERY == 0) memcpy(bulk(who[b], 1 + t / EVERY), bulk(who[b], 0), machine.bulk * sizeof(float));
          machine.step(prev[b] + own, now[b] + own, bulk(who[b], 0), now[b] + face, now[b] + reads, spare);
          memcpy(j.hidden_out + row(who[b], t) * L * H, now[b] + hidden, L * H * sizeof(float));
          memcpy(j.reads_out + row(who[b], t) * reads_size, now[b] + reads, reads_size * sizeof(float));
        }
      }
      for (int b = 0; b < count; b++) finish(first + b);
      return true;
    });
  }
  // The bulk before each step from the last that was kept to step t, and after it.
  void relink(Index s, Index t, float* to) const {
    Index start = t / EVERY * EVERY;
    memcpy(to, bulk(s, 1 + t / EVERY), machine.bulk * sizeof(float));
    for (Index at = start; at <= t; at++, to += machine.bulk)
      machine.relink(tape(s, at) + own, tape(s, at + 1) + own, to, to + machine.bulk);
  }
  Index packed_room() const {
    Index room = 0;
    for (Index l = 0; l < L; l++) room += std::max(Packed::room(G, seen_size[l]), Packed::room(seen_size[l], G));
    return room + std::max(Packed::room(machine.columns, L * H), Packed::room(L * H, machine.columns));
  }
  void start(Index s) const {
    float* r = tape(s, 0);
    machine.start(j, s, r + own, bulk(s, 0));
    memcpy(r + reads, j.state[READS] + s * reads_size, reads_size * sizeof(float));
    clear(r + hidden, L * H);
    if (lstm) {
      memcpy(r + hidden, j.state[HIDDEN] + s * L * H, L * H * sizeof(float));
      memcpy(r + cell, j.state[CELL] + s * L * H, L * H * sizeof(float));
    }
  }
  void finish(Index s) const {
    const float* r = tape(s, length(s));
    machine.finish(j, s, r + own, bulk(s, 0));
    memcpy(j.state_out[READS] + s * reads_size, r + reads, reads_size * sizeof(float));
    if (lstm) {
      memcpy(j.state_out[HIDDEN] + s * L * H, r + hidden, L * H * sizeof(float));
      memcpy(j.state_out[CELL] + s * L * H, r + cell, L * H * sizeof(float));
    }
  }
  // In place: the gates and the hidden units of a layer, from their sums.
  void control(const float* prev, float* now, Index l) const {
    float *g = now + gates[l], *h = now + hidden + l * H;
    if (!lstm) {
      each(g, H, [](V v) { return tanh(v); });
      memcpy(h, g, H * sizeof(float));
      return;
    }
    each(g, 2 * H, [](V v) { return sigmoid(v); });
    each(g + 2 * H, H, [](V v) { return tanh(v); });
    each(g + 3 * H, H, [](V v) { return sigmoid(v); });
    const float* past = prev + cell + l * H;
    float* c = now + cell + l * H;
    for (Index i = 0; i < H; i++) h[i] = c[i] = g[H + i] * past[i] + g[i] * g[2 * H + i];
    each(h, H, [](V v) { return tanh(v); });
    for (Index i = 0; i < H; i++) h[i] *= g[3 * H + i];
  }
  // dh becomes the gradient of the gates' sums, in dg; dc that of the cell of the step before.
  void uncontrol(const float* prev, const float* now, Index l, const float* dh, float* dc, float* dg, float* spare) const {
    const float *g = now + gates[l], *c = now + cell + l * H, *past = prev + cell + l * H;
    if (!lstm) {
      for (Index i = 0; i < H; i++) dg[i] = dh[i] * (1.0f - g[i] * g[i]);
      return;
    }
    memcpy(spare, c, H * sizeof(float));
    each(spare, H, [](V v) { return tanh(v); });
    for (Index i = 0; i < H; i++) {
      float in = g[i], forget = g[H + i], candidate = g[2 * H + i], out = g[3 * H + i], y = spare[i];
      float d = dc[i] + dh[i] * out * (1.0f - y * y);
      dg[i] = d * candidate * in * (1.0f - in);
      dg[H + i] = d * past[i] * forget * (1.0f - forget);
      dg[2 * H + i] = d * in * (1.0f - candidate * candidate);
      dg[3 * H + i] = dh[i] * y * out * (1.0f - out);
      dc[i] = d * forget;
    }
  }
  bool backward() const {
    return groups([&](Index member, Index first, int count) {
      Index own_carry = padded(machine.carried), carry = own_carry + padded(reads_size) + 2 * padded(L * H);
      Index work = padded(G) + padded(machine.columns) + padded(L * H) + padded(seen_size[L - 1]) + padded(H);
      Index again = (EVERY + 1) * machine.bulk;
      float* p = workroom(packed_room() + machine.spare + count * (carry + work + again));
      if (!p) return false;
      Packed recurrent[MOST_LAYERS], interface;
      for (Index l = 0; l < L; l++) {
        recurrent[l].pack(j.recurrent[l] + member * G * seen_size[l], G, seen_size[l], true, p);
        p += Packed::room(seen_size[l], G);
      }
      interface.pack(j.interface_weight + member * machine.columns * L * H, machine.columns, L * H, true, p);
      float* spare = p + Packed::room(L * H, machine.columns);
      float* carries = spare + machine.spare;
      float *works = carries + count * carry, *bulks = works + count * work;
      struct Sample { float *memory, *reads, *hidden, *cell, *gates, *face, *units, *seen, *spare; } all[GROUP];
      for (int b = 0; b < count; b++) {
        float *c = carries + b * carry, *w = works + b * work;
        Sample& x = all[b];
        x.memory = c, x.reads = c + own_carry, x.hidden = x.reads + padded(reads_size), x.cell = x.hidden + padded(L * H);
        x.gates = w, x.face = w + padded(G), x.units = x.face + padded(machine.columns), x.seen = x.units + padded(L * H), x.spare = x.seen + padded(seen_size[L - 1]);
        Index s = first + b;
        machine.begin(j, s, c);
        memcpy(x.reads, j.dstate_out[READS] + s * reads_size, reads_size * sizeof(float));
        if (lstm) {
          memcpy(x.hidden, j.dstate_out[HIDDEN] + s * L * H, L * H * sizeof(float));
          memcpy(x.cell, j.dstate_out[CELL] + s * L * H, L * H * sizeof(float));
        }
      }
      for (Index t = j.steps - 1; t >= 0; t--) {
        const float *prev[GROUP], *now[GROUP], *from[GROUP];
        float* to[GROUP];
        Sample* live[GROUP];
        Index who[GROUP];
        int n = 0;
        for (int b = 0; b < count; b++) {
          Index s = first + b, at = row(s, t);
          if (t < length(s)) {
            live[n] = &all[b], who[n] = at, prev[n] = tape(s, t), now[n++] = tape(s, t + 1);
            continue;
          }
          clear(j.dpre + at * L * G, L * G), clear(j.dinterface + at * machine.columns, machine.columns);
          for (Index l = 0; l < L; l++) clear(j.seen[l] + at * seen_size[l], seen_size[l]);
        }
        for (int b = 0; b < n; b++) {
          Sample& x = *live[b];
          add(x.reads, j.dreads_out + who[b] * reads_size, reads_size);
          clear(x.face, machine.columns);
          float *links = bulks + (live[b] - all) * again, *at = links + t % EVERY * machine.bulk;
          if (machine.bulk && (t % EVERY == EVERY - 1 || t == length(first + (live[b] - all)) - 1)) relink(first + (live[b] - all), t, links);
          machine.unstep(prev[b] + own, now[b] + own, at, at + machine.bulk, now[b] + face, x.reads, x.face, x.memory, spare);
          unsquash(machine.ranges, now[b] + face, x.face);
          memcpy(j.dinterface + who[b] * machine.columns, x.face, machine.columns * sizeof(float));
          const float* given = j.dhidden_out + who[b] * L * H;
          for (Index i = 0; i < L * H; i++) x.units[i] = given[i] + (lstm ? x.hidden[i] : 0.0f);
          clear(x.reads, reads_size);
          from[b] = x.face, to[b] = x.units;
        }
        if (n) multiply(interface, n, from, to);
        for (Index l = L - 1; l >= 0 && n; l--) {
          for (int b = 0; b < n; b++) {
            Sample& x = *live[b];
            uncontrol(prev[b], now[b], l, x.units + l * H, x.cell + l * H, x.gates, x.spare);
            memcpy(j.dpre + who[b] * L * G + l * G, x.gates, G * sizeof(float));
            memcpy(j.seen[l] + who[b] * seen_size[l], now[b] + seen[l], seen_size[l] * sizeof(float));
            clear(x.seen, seen_size[l]);
            from[b] = x.gates, to[b] = x.seen;
          }
          multiply(recurrent[l], n, from, to);
          for (int b = 0; b < n; b++) {
            Sample& x = *live[b];
            add(x.reads, x.seen, reads_size);
            if (lstm) memcpy(x.hidden + l * H, x.seen + reads_size, H * sizeof(float));
            if (l > 0) add(x.units + (l - 1) * H, x.seen + seen_size[l] - H, H);
          }
        }
      }
      for (int b = 0; b < count; b++) {
        Index s = first + b;
        machine.end(j, s, all[b].memory);
        memcpy(j.dstate[READS] + s * reads_size, all[b].reads, reads_size * sizeof(float));
        if (lstm) {
          memcpy(j.dstate[HIDDEN] + s * L * H, all[b].hidden, L * H * sizeof(float));
          memcpy(j.dstate[CELL] + s * L * H, all[b].cell, L * H * sizeof(float));
        }
      }
      return true;
    });
  }
};

extern "C" int64_t softplace_tape(int dnc, const Job* job) { return dnc ? Sequence<Dnc>(*job).tape_size() : Sequence<Ntm>(*job).tape_size(); }
// Both say whether there was memory for the work.
extern "C" int softplace_sequence(int dnc, const Job* job) { return dnc ? Sequence<Dnc>(*job).forward() : Sequence<Ntm>(*job).forward(); }
extern "C" int softplace_unsequence(int dnc, const Job* job) { return dnc ? Sequence<Dnc>(*job).backward() : Sequence<Ntm>(*job).backward(); }
