// The types of runs: how many users there are when. `run.py` reads the same file.

import { SCALE, TIME } from './settings.js';

const TYPES = JSON.parse(open('../stages.json'));

// `stages`: lengths in whole seconds and users at their end, by the scale unless the type has its users on any machine.
export function typeOf(name) {
  const { cores, failed_max, by_endpoint, hit_ratio_min, rate_min, stages } = TYPES[name];
  const users = (target) => (cores > 0 && target > 0 ? Math.max(1, Math.round(target * SCALE)) : target);
  const length = (seconds) => Math.max(1, Math.round(seconds * TIME));
  return {
    failedMax: failed_max,
    byEndpoint: by_endpoint,
    hitRatioMin: hit_ratio_min,
    rateMin: rate_min * Math.min(1, SCALE),
    stages: stages.map(([seconds, target]) => ({ seconds: length(seconds), users: users(target) })),
  };
}

// When each stage ends, in milliseconds from the begin.
export function endsOf(name) {
  let end = 0;
  return typeOf(name).stages.map(({ seconds }) => {
    end += seconds * 1000;
    return end;
  });
}
