// The forward process in closed form, as `ldm/schedule.py` [D4, D5, D9, D12, D18].

/** @typedef {{T: number, beta_start: number, beta_end: number}} ScheduleConfig scaled linear, predicting v, to t = 0 */
/** @typedef {{eps: Float32Array, z_0: Float32Array}} Prediction */

export class Schedule {
  /** @param {ScheduleConfig} config */
  constructor(config) {
    this.T = config.T;
    const [from, to] = [Math.sqrt(config.beta_start), Math.sqrt(config.beta_end)];
    const step = (to - from) / (this.T - 1);
    /** alpha_bar_t [D5], from alpha_bar_0 = 1 @type {number[]} */
    this.alphaBar = [1];
    for (let i = 0; i < this.T; i++) {
      const root = i < this.T / 2 ? from + step * i : to - step * (this.T - 1 - i); // exact at both ends
      this.alphaBar.push(this.alphaBar[i] * (1 - root * root));
    }
  }

  /** sqrt(alpha_bar_t) @param {number} t */
  signal(t) {
    return Math.fround(Math.sqrt(this.alphaBar[t]));
  }

  /** sqrt(1 - alpha_bar_t) @param {number} t */
  noise(t) {
    return Math.fround(Math.sqrt(1 - this.alphaBar[t]));
  }

  /**
   * [D12] The network's output v as eps and as z_0.
   * @param {Float32Array} z_t
   * @param {Float32Array} v
   * @param {number} t
   * @returns {Prediction}
   */
  predict(z_t, v, t) {
    const [signal, noise] = [this.signal(t), this.noise(t)];
    return {
      eps: z_t.map((z, i) => signal * v[i] + noise * z),
      z_0: z_t.map((z, i) => signal * z - noise * v[i]),
    };
  }
}

/**
 * [D18] Classifier-free guidance: u + w (c - u).
 * @param {Float32Array} uncond
 * @param {Float32Array} cond
 * @param {number} w
 */
export const guided = (uncond, cond, w) => uncond.map((u, i) => u + w * (cond[i] - u));
