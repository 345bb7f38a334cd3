// Standard normal noise by seed, equal up to rounding to `torch.randn` with a generator on the CPU: the Mersenne
// Twister (Matsumoto and Nishimura 1998), and the Box-Muller transform on sixteen numbers at a time.

const [N, M] = [624, 397];

/**
 * The Mersenne Twister's 32-bit numbers.
 * @param {bigint} seed its low 32 bits are used, as by torch
 * @returns {Generator<number, never>}
 */
export function* mersenneTwister(seed) {
  const state = new Uint32Array(N);
  state[0] = Number(BigInt.asUintN(32, seed));
  for (let i = 1; i < N; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  for (;;) {
    for (let i = 0; i < N; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % N] & 0x7fffffff);
      state[i] = state[(i + M) % N] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    for (let y of state) {
      y ^= y >>> 11;
      y ^= (y << 7) & 0x9d2c5680;
      y ^= (y << 15) & 0xefc60000;
      yield (y ^ (y >>> 18)) >>> 0;
    }
  }
}

/**
 * `torch.randn(size, generator=torch.Generator().manual_seed(seed))`.
 * @param {number} size a multiple of 16
 * @param {bigint} seed
 * @returns {Float32Array}
 */
export function randn(size, seed) {
  const numbers = mersenneTwister(seed);
  const uniform = () => (numbers.next().value & 0xffffff) / 2 ** 24; // 24 bits, in [0, 1)
  const noise = Float32Array.from({ length: size }, uniform);
  for (let start = 0; start < size; start += 16) {
    for (let j = start; j < start + 8; j++) {
      const radius = Math.sqrt(-2 * Math.log(1 - noise[j]));
      const theta = 2 * Math.PI * noise[j + 8];
      noise[j] = radius * Math.cos(theta);
      noise[j + 8] = radius * Math.sin(theta);
    }
  }
  return noise;
}
