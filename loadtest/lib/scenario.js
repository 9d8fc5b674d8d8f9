// Options of a run by its type: how many users when, and what fails it.

import { REPLICAS, RESULTS, SCALE, TIME, TIMED } from './settings.js';
import { typeOf } from './stages.js';
import { common, fast, limits, steady } from './targets.js';

export const SHARED = {
  discardResponseBodies: true,
  insecureSkipTLSVerify: true,
  // Without the address of each request: there are as many as there are products.
  systemTags: ['status', 'scenario', 'expected_response', 'error_code'],
  summaryTrendStats: ['avg', 'min', 'med', 'p(75)', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'max', 'count'],
};

// Users who come, stay and leave by the stages of this type.
export function during(type) {
  const kind = typeOf(type);
  const main = {
    executor: 'ramping-vus',
    startVUs: 0,
    stages: kind.stages.map(({ seconds, users }) => ({ duration: `${seconds}s`, target: users })),
    gracefulRampDown: '10s',
  };
  const thresholds = { ...common(kind), ...(TIMED ? limits(kind) : {}) };
  return { ...SHARED, scenarios: { main }, thresholds };
}

// So many requests a second for each replica, whether it keeps up or not; then twice as many for five seconds.
export function atRate(each) {
  const seconds = Math.max(5, Math.round(600 * TIME));
  const scenario = (times, duration, startTime) => ({
    executor: 'constant-arrival-rate',
    rate: Math.max(1, Math.round(each * times * REPLICAS * SCALE)),
    timeUnit: '1s',
    duration: `${duration}s`,
    startTime: `${startTime}s`,
    preAllocatedVUs: 100 * REPLICAS,
    maxVUs: 1000,
  });
  const scenarios = { steady: scenario(1, seconds, 0), burst: scenario(2, 5, seconds + 2) };
  const thresholds = { ...common({ failedMax: 0.001, hitRatioMin: 0, stages: [] }), ...steady(), ...(TIMED ? fast() : {}) };
  return { ...SHARED, scenarios, thresholds };
}

// For the report; what people read of it is printed by `run.py`.
export function handleSummary(data) {
  return { [`${RESULTS}/summary.json`]: JSON.stringify(data, null, 1) };
}
