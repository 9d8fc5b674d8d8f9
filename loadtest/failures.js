// A steady load during which something is made to fail: reads, and orders that are sent again until they are confirmed.
// `failures.py` does the rest.
import { sleep } from 'k6';

import { askAsUser, session } from './lib/client.js';
import { seeded } from './lib/choice.js';
import { RUN } from './lib/settings.js';
import { single } from './lib/journeys.js';

const SECONDS = Number(__ENV.SECONDS || 30);
// An order whose replica died is taken over five seconds later.
const PATIENCE_MS = 20000;

function scenario(exec, rate, users) {
  const executor = 'constant-arrival-rate';
  return { executor, exec, rate, timeUnit: '1s', duration: `${SECONDS}s`, preAllocatedVUs: users, maxVUs: users };
}

export const options = {
  scenarios: { reads: scenario('read', 40, 300), orders: scenario('buy', 5, 100) },
  discardResponseBodies: true,
  insecureSkipTLSVerify: true,
  systemTags: ['status', 'scenario', 'method', 'error_code'],
};

export function read() {
  single();
}

export function buy() {
  const product = seeded(__ITER % 48);
  const put = { json: { quantity: 1 }, want: [204] };
  if (!until(204, () => askAsUser('cart_add', 'PUT', `/api/v1/cart/items/${product}`, put))) return;
  const fields = { 'Idempotency-Key': `${RUN}-${__VU}-${__ITER}` };
  const order = { json: { payment_token: 'local-approve' }, fields, want: [201] };
  const made = until(201, () => askAsUser('order', 'POST', '/api/v1/orders', order));
  console.log(`${made ? 'acknowledged' : 'given-up'} ${session.place}`);
}

// Whether it had this status in the end.
function until(status, attempt) {
  const end = Date.now() + PATIENCE_MS;
  while (attempt().status !== status) {
    if (Date.now() > end) return false;
    sleep(0.1);
  }
  return true;
}
