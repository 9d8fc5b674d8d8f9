// One request as a journey makes it: from an address of the visitor's own, with the token of the session, checked and counted.

import { check } from 'k6';
import { SharedArray } from 'k6/data';
import exec from 'k6/execution';
import http from 'k6/http';
import { Counter, Rate, Trend } from 'k6/metrics';

import { BASE, SESSIONS } from './settings.js';

const throttled = new Counter('throttled');
// Of answers that the app allows a shared cache to keep: those that the edge had.
const kept = new Rate('hit_ratio');
const hits = new Trend('hit_ms', true);
const misses = new Trend('miss_ms', true);

const sessions = new SharedArray('sessions', () => JSON.parse(open(SESSIONS)));

// A token counts for 15 minutes.
const RENEW_AFTER_MS = 12 * 60 * 1000;
// Within the 100 requests a minute that an address may make.
const VISITS_AN_ADDRESS = 4;

// Of this virtual user, for its whole life. Where there are fewer sessions than users, some share one, and read only.
const place = (__VU - 1) % sessions.length;
export const session = { ...sessions[place], place, own: __VU <= sessions.length, since: Date.now() };

// Where a request comes from: another address every few visits, so that the limiter has as many keys as there are visitors.
function address() {
  const visitor = (__VU * 7919 + Math.floor(__ITER / VISITS_AN_ADDRESS)) % 2 ** 24;
  return `10.${visitor >> 16}.${(visitor >> 8) & 255}.${visitor & 255}`;
}

// `more`: json (a body), token, fields, want (statuses, 200 else), text (whether the body is of interest).
export function ask(endpoint, method, path, more = {}) {
  const headers = { 'X-Forwarded-For': address(), 'Accept-Encoding': 'gzip', ...more.fields };
  if (more.token) headers.Authorization = `Bearer ${more.token}`;
  let body = null;
  if (more.json !== undefined) {
    headers['Content-Type'] = 'application/json';
    body = JSON.stringify(more.json);
  }
  const wanted = more.want || [200];
  const response = http.request(method, BASE + path, body, {
    headers,
    tags: { endpoint, name: endpoint },
    responseType: more.text ? 'text' : 'none',
    responseCallback: http.expectedStatuses(...wanted),
    timeout: '60s',
  });
  if (response.status === 429) throttled.add(1);
  countCached(response);
  check(response, { [endpoint]: ({ status }) => wanted.includes(status) });
  return response;
}

// What is for one user alone has no lifetime for caches that many share (RFC 9111 §5.2.2.10).
function countCached(response) {
  if (!/s-maxage/.test(response.headers['Cache-Control'])) return;
  const isHit = response.headers['X-Cache'] === 'HIT';
  kept.add(isHit);
  (isHit ? hits : misses).add(response.timings.duration);
}

// As the user of the session, whose tokens are renewed in time.
export function askAsUser(endpoint, method, path, more = {}) {
  if (Date.now() - session.since > RENEW_AFTER_MS) renew();
  return ask(endpoint, method, path, { ...more, token: session.access });
}

function renew() {
  // A refresh token counts once, so who shares a session signs in instead.
  const response = session.own ? refresh(session.refresh) : signIn(session.user);
  if (response.status !== 200) return;
  const grant = response.json();
  Object.assign(session, { access: grant.access_token, refresh: grant.refresh_token, own: true, since: Date.now() });
}

export function signIn(user) {
  return ask('login', 'POST', '/api/v1/auth/login', { json: { login: user, password: 'tollgate-seed' }, text: true });
}

export function refresh(token) {
  return ask('refresh', 'POST', '/api/v1/auth/refresh', { json: { refresh_token: token }, text: true });
}

// Tags what follows with the stage that the scenario is in, from 1 on.
export function tagStage(ends) {
  const elapsed = Date.now() - exec.scenario.startTime;
  let stage = 1;
  while (stage < ends.length && elapsed >= ends[stage - 1]) stage += 1;
  exec.vu.metrics.tags.stage = String(stage);
}
