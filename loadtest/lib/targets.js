// What fails a run. Numbers in comments name the document that asks for it.

// Of each endpoint: limits in milliseconds by quantile.
const ENDPOINTS = {
  // 000
  register: { 95: 2000, 99: 3000 },
  login: { 95: 1000, 99: 2000 },
  refresh: { 95: 1000 },
  profile: { 95: 500, 99: 1000 },
  logout: { 95: 500 },
  // 001: an API answers within 200 ms
  media_list: { 95: 200 },
  media_search: { 95: 200 },
  media_item: { 95: 200 },
  playlists: { 95: 200 },
  playlist: { 95: 200 },
  playlist_create: { 95: 200 },
  playlist_add: { 95: 200 },
  // 002
  product: { 95: 200 },
  product_search: { 95: 300 },
  cart: { 95: 500 },
  cart_add: { 95: 500 },
  order: { 95: 2000 },
  payment: { 95: 3000 },
  // 004
  workflow_list: { 50: 50, 95: 100, 99: 200 },
  workflow_get: { 50: 30, 95: 80, 99: 150 },
  workflow_next: { 50: 100, 95: 200, 99: 400 },
  workflow_validate: { 50: 50, 95: 120, 99: 250 },
  run_start: { 95: 200 },
  run_confirm: { 95: 200 },
  run_complete: { 95: 200 },
  // 001; 003 allows 100 ms for the metrics
  health: { 95: 10 },
  metrics: { 95: 100 },
};

const STATUSES = [0, 200, 201, 204, 304, 400, 401, 402, 404, 409, 412, 422, 429, 500, 502, 503, 504];

// For every run: nothing is refused for its rate, answers are the expected ones, so many are hits (001), and the summary tells
// endpoints, statuses, stages, and hits from misses: k6 keeps apart only what a threshold names.
export function common({ failedMax, hitRatioMin, stages }) {
  const thresholds = {
    throttled: ['count<1'],
    checks: [`rate>=${1 - failedMax}`],
    http_req_failed: [`rate<=${failedMax}`],
    hit_ratio: [`rate>=${hitRatioMin}`],
    hit_ms: ['max>=0'],
    miss_ms: ['max>=0'],
  };
  for (const status of STATUSES) thresholds[`http_reqs{status:${status}}`] = ['count>=0'];
  for (let stage = 1; stage <= stages.length; stage += 1) {
    thresholds[`http_req_duration{stage:${stage}}`] = ['max>=0'];
    thresholds[`http_req_failed{stage:${stage}}`] = ['rate>=0'];
  }
  for (const endpoint of Object.keys(ENDPOINTS)) {
    thresholds[`http_req_duration{endpoint:${endpoint}}`] = ['max>=0'];
    thresholds[`http_req_failed{endpoint:${endpoint}}`] = ['rate>=0'];
  }
  return thresholds;
}

// For users with time to think: the limits of L2, so many requests a second at least, and the limits of each endpoint unless the
// load is more than they are made for.
export function limits({ rateMin, byEndpoint }) {
  const thresholds = { http_req_duration: ['p(50)<500', 'p(95)<2000', 'p(99)<5000'] };
  if (rateMin > 0) thresholds.http_reqs = [`rate>${rateMin}`];
  if (!byEndpoint) return thresholds;
  for (const [endpoint, quantiles] of Object.entries(ENDPOINTS)) {
    const each = Object.entries(quantiles).map(([quantile, ms]) => `p(${quantile})<${ms}`);
    thresholds[`http_req_duration{endpoint:${endpoint}}`] = each;
  }
  return thresholds;
}

// For a fixed rate a replica (003): its parts apart, and failures.
export function steady() {
  return {
    http_req_duration: ['max>=0'],
    'http_req_duration{scenario:steady}': ['max>=0'],
    'http_req_failed{scenario:steady}': ['rate<0.001'],
    'http_req_duration{scenario:burst}': ['max>=0'],
    'http_reqs{scenario:steady}': ['count>=0'],
    'http_reqs{scenario:burst}': ['count>=0'],
    'dropped_iterations{scenario:steady}': ['count>=0'],
    'dropped_iterations{scenario:burst}': ['count>=0'],
  };
}

// How fast that has to be, and nothing may be left out because the generator did not keep up.
export function fast() {
  return {
    'http_req_duration{scenario:steady}': ['p(50)<75', 'p(95)<150', 'p(99)<250'],
    'dropped_iterations{scenario:steady}': ['count<1'],
    'http_req_duration{endpoint:health}': ['p(95)<10'],
  };
}
