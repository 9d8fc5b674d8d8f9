// What visitors do in the five systems, by weight. A visit is one journey, and then time to think. Journeys that do some
// things now and then are handed the chance.

import { sleep } from 'k6';

import { always, chance, one, popular, seeded, weighted } from './choice.js';
import { ask, askAsUser, refresh, session, signIn, tagStage } from './client.js';
import { RUN } from './settings.js';
import { endsOf } from './stages.js';

const MEDIA = 1000;
const PRODUCTS = 500;
const WORKFLOWS = 60;
const KINDS = ['harbour', 'meadow', 'bridge', 'orchard', 'station', 'summit', 'garden', 'workshop'];
const LOOKS = ['quiet', 'early', 'distant', 'golden', 'narrow', 'northern', 'second', 'last'];
const MATERIALS = ['ash', 'brass', 'cork', 'glass', 'linen', 'oak', 'steel', 'wool'];
const THINGS = ['bench', 'chair', 'clock', 'desk', 'lamp', 'rug', 'shelf', 'table'];
const CATEGORIES = ['authentication', 'database', 'design', 'operations', 'security', 'testing'];
// 100,000 orders an hour in 10,000 requests a second (002) are one in 360 requests.
const BUYS = 0.027;
const SIGNS_IN = 0.05;
const REGISTERS = 0.02;
const READS_METRICS = 0.2;
const GOES_ON = 0.1;

// ── Accounts (000) ──

function account(chance) {
  if (session.own && chance(SIGNS_IN)) signInAndOut();
  else readProfile();
  if (chance(REGISTERS)) register();
}

function signInAndOut() {
  const grant = signIn(session.user);
  if (grant.status !== 200) return;
  const renewed = refresh(grant.json('refresh_token'));
  if (renewed.status !== 200) return;
  const token = renewed.json('access_token');
  ask('profile', 'GET', '/api/v1/users/me', { token });
  ask('logout', 'POST', '/api/v1/auth/logout', { token, want: [204] });
}

function readProfile() {
  askAsUser('profile', 'GET', '/api/v1/users/me');
}

function register() {
  const name = `load-${RUN}-${__VU}-${__ITER}`;
  const json = { email: `${name}@example.com`, user_name: name, display_name: 'Load', password: 'tollgate-load' };
  ask('register', 'POST', '/api/v1/auth/register', { json, want: [201] });
}

// ── MediaNest (001): 30, 50 and 20 of a hundred ──

function ownMedia() {
  readProfile();
  listMedia();
}

function browse() {
  listMedia();
  searchMedia();
  ask('media_item', 'GET', `/api/v1/media/${seeded(popular(MEDIA), '8001')}`);
}

function listMedia() {
  ask('media_list', 'GET', '/api/v1/media');
}

function searchMedia() {
  ask('media_search', 'GET', `/api/v1/media/search?q=${one(LOOKS)}+${one(KINDS)}`);
}

function listPlaylists() {
  askAsUser('playlists', 'GET', '/api/v1/playlists');
}

function playlists() {
  listPlaylists();
  const json = { name: `Load ${RUN} ${__VU} ${__ITER}`, is_public: false };
  const made = askAsUser('playlist_create', 'POST', '/api/v1/playlists', { json, want: [201] });
  const path = made.headers.Location;
  if (!path) return;
  const item = seeded(popular(MEDIA), '8001');
  askAsUser('playlist_add', 'PUT', `${path}/items/${item}`, { json: {}, want: [204] });
  askAsUser('playlist', 'GET', path);
}

// ── Shop (002) ──

function shop(chance) {
  searchProducts();
  readProduct();
  const put = askAsUser('cart_add', 'PUT', `/api/v1/cart/items/${wanted()}`, { json: { quantity: 1 }, want: [204] });
  // A cart that others share may be another's order by now.
  if (put.status === 204 && session.own && chance(BUYS)) buy();
}

function searchProducts() {
  ask('product_search', 'GET', `/api/v1/products/search?q=${one(MATERIALS)}+${one(THINGS)}`);
}

function readProduct() {
  ask('product', 'GET', `/api/v1/products/${seeded(popular(PRODUCTS))}`);
}

// A product of which there is plenty: of every fifty, one is sold out and one nearly. A cart has room for fifty.
function wanted() {
  const number = (session.place * 7 + (__ITER % 20)) % (PRODUCTS - PRODUCTS / 25);
  return seeded(Math.floor(number / 48) * 50 + (number % 48));
}

function buy() {
  askAsUser('cart', 'GET', '/api/v1/cart');
  const fields = { 'Idempotency-Key': `${RUN}-${__VU}-${__ITER}` };
  const json = { payment_token: 'local-approve' };
  const order = askAsUser('order', 'POST', '/api/v1/orders', { json, fields, want: [201] });
  if (order.status === 201) askAsUser('payment', 'GET', `${order.headers.Location}/payment`);
}

// ── Workflows (004): 40, 30, 20 and 10 of a hundred ──

let run = null;

function listWorkflows() {
  ask('workflow_list', 'GET', `/api/v1/workflows?category=${one(CATEGORIES)}`);
}

function readWorkflow() {
  ask('workflow_get', 'GET', `/api/v1/workflows/${seeded(popular(WORKFLOWS))}`);
}

// One step of the visitor's run, sometimes more; it begins with the first and is completed with the last.
function advance(chance) {
  run = run || begin();
  if (!run) return;
  askAsUser('workflow_next', 'GET', `/api/v1/runs/${run.id}/next`);
  const step = run.done + 1;
  const json = { confirmed: true };
  const moved = askAsUser('run_confirm', 'POST', `/api/v1/runs/${run.id}/steps/${step}`, { json });
  if (moved.status === 200) run.done = step;
  if (run.done === run.steps) {
    askAsUser('run_complete', 'POST', `/api/v1/runs/${run.id}/complete`);
    run = null;
  } else if (moved.status === 200 && chance(GOES_ON)) {
    advance(chance);
  }
}

function begin() {
  const path = `/api/v1/workflows/${seeded(popular(WORKFLOWS))}/runs`;
  const made = askAsUser('run_start', 'POST', path, { json: {}, want: [201], text: true });
  return made.status === 201 ? made.json() : null;
}

function validate() {
  const steps = [1, 2, 3].map((sequence) => ({ sequence, title: 'Read', prompt: 'Read it.', require_confirmation: false }));
  const json = { name: 'A proposal', description: 'Of a load test.', category: 'testing', steps };
  ask('workflow_validate', 'POST', '/api/v1/workflows/validate', { json });
}

// ── x0tta6bl4 (003) ──

function operate(chance) {
  readHealth();
  if (chance(READS_METRICS)) ask('metrics', 'GET', '/metrics');
}

function readHealth() {
  ask('health', 'GET', '/health');
}

// The documents weigh journeys within a system, and not the systems among each other.
const JOURNEYS = [
  [10, account],
  [40 * 0.3, ownMedia],
  [40 * 0.5, browse],
  [40 * 0.2, playlists],
  [25, shop],
  [20 * 0.4, listWorkflows],
  [20 * 0.3, readWorkflow],
  [20 * 0.2, advance],
  [20 * 0.1, validate],
  [5, operate],
];

// A virtual user of this type of run. Those of a smoke test do everything in turn.
export function visitor(type) {
  const ends = endsOf(type);
  return () => {
    tagStage(ends);
    if (type === 'smoke') JOURNEYS[(__VU + __ITER) % JOURNEYS.length][1](always);
    else weighted(JOURNEYS)(chance);
    sleep(1 + 3 * Math.random());
  };
}

const SINGLE = [listMedia, searchMedia, listPlaylists, searchProducts, readProduct, listWorkflows, readWorkflow, validate];
const SINGLE_JOURNEYS = [...SINGLE.map((each) => [10, each]), [20, readProfile], [2, readHealth]];

// One request, of those that change nothing.
export function single() {
  weighted(SINGLE_JOURNEYS)();
}
