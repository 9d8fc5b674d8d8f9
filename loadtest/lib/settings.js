// What `run.py` says about this run, each with a value for a run by hand.

export const BASE = __ENV.BASE_URL || 'https://localhost:8443';
// Users by the number that the type of run names.
export const SCALE = Number(__ENV.SCALE || 1);
// Lengths of stages by those that it names.
export const TIME = Number(__ENV.TIME || 1);
export const REPLICAS = Number(__ENV.REPLICAS || 3);
// The whole path of a file with sessions: an array of `{user, access, refresh}`.
export const SESSIONS = __ENV.SESSIONS;
if (!SESSIONS) throw new Error('SESSIONS has to name a file with the sessions of users');
export const RESULTS = __ENV.RESULTS || '.';
// Goes into the keys of orders, so that a second run makes orders of its own.
export const RUN = __ENV.RUN || String(Date.now());
// Whether slowness fails the run; what is wrong always does.
export const TIMED = __ENV.TIMED !== '0';
