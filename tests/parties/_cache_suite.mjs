// Runs the public suite of HTTP caching through a cache and prints what came of it. The requests, their judgement and
// the rules of dependencies are the suite's own; this file only counts, and decides whether it is enough.
//
//   node _cache_suite.mjs --suite FOLDER --base URL --optimal-min N [--differences FILE] [--id TEST-OR-GROUP]
//
// It knows both layouts: the packaged edition, and the current one with its folder test-engine. A required test counts
// as failed unless it passed or could not be judged, because a test that it depends on did not pass. The suite tells
// apart why a test failed: an assertion, its preparation (setup), a request sent twice (retry), itself (harness).
// The file of differences names tests that may fail, and must; its lines are `edition | test | reason`.

import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

const CLIENT_TIMEOUT_MS = 10_000
const KINDS = ['required', 'optimal', 'check']
const VERDICTS = {
  '✅': 'pass',
  Y: 'yes',
  N: 'no',
  '⛔️': 'fail',
  '⚠️': 'fail',
  '🔹': 'setup',
  '↻': 'retry',
  '⁉️': 'harness',
  '⚪️': 'dependency',
  '-': 'untested'
}

const { values: options } = parseArgs({
  options: {
    suite: { type: 'string' },
    base: { type: 'string' },
    id: { type: 'string' },
    differences: { type: 'string' },
    'optimal-min': { type: 'string' }
  }
})
const current = existsSync(join(options.suite, 'test-engine'))
const suite = await load(resolve(options.suite))
const differences = readDifferences()
const chosen = choose(suite.groups, options.id)
const results = await suite.run(chosen, options.base)
const tests = judge(chosen, results)
if (options.id === undefined) {
  table(tests)
  report(tests, Number(options['optimal-min']))
} else {
  tests.forEach(test => console.log(`${test.verdict}  ${test.kind} ${test.id}: ${test.reason}`))
}
// The client keeps connections open that nobody needs any more.
process.exit(tests.some(failedRequired) ? 1 : 0)

// By test, the reasons of those that are known to fail.
function readDifferences () {
  if (options.differences === undefined) return new Map()
  const lines = readFileSync(options.differences, 'utf8').split('\n').filter(line => line !== '' && !line.startsWith('#'))
  return new Map(lines
    .map(line => line.split('|').map(cell => cell.trim()))
    .filter(([edition]) => ['*', current ? 'current' : 'packaged'].includes(edition))
    .map(([, test, reason]) => [test, reason]))
}

async function load (folder) {
  const engine = current ? join(folder, 'test-engine') : folder
  const use = (...path) => import(pathToFileURL(join(...path)))
  const { default: groups } = await use(folder, 'tests/index.mjs')
  const { runTests, getResults } = await use(engine, 'client/runner.mjs')
  const { determineTestResult } = await use(engine, current ? 'lib/results.mjs' : 'lib/display.mjs')
  const { resolve: find } = createRequire(join(folder, 'package.json'))
  // The current edition has a time limit of its own, and needs undici to see interim responses.
  if (current) find('undici')
  const { default: nodeFetch } = current ? {} : await import(find('node-fetch'))
  const limited = (url, init) => nodeFetch(url, { timeout: CLIENT_TIMEOUT_MS, ...init })
  return {
    groups,
    determine: determineTestResult,
    run: async (chosen, base) => {
      // One after another, if their dialogue is to be read.
      const parallel = options.id === undefined ? undefined : 1
      const client = current ? [] : [limited]
      await runTests(chosen, ...client, false, base, parallel)
      return getResults()
    }
  }
}

// The groups with the tests that are for a shared cache: all, or those of one group, or one test.
function choose (groups, id) {
  const chosen = groups
    .map(group => ({
      ...group,
      tests: group.tests.filter(test => !test.browser_only && [undefined, test.id, group.id].includes(id))
    }))
    .filter(group => group.tests.length > 0)
  if (chosen.length === 0) {
    console.error(`no test and no group of tests is called ${id}; the groups are ${groups.map(group => group.id).join(', ')}`)
    process.exit(2)
  }
  if (id !== undefined) chosen.forEach(group => group.tests.forEach(test => { test.dump = true }))
  return chosen
}

function judge (chosen, results) {
  // What a test depends on was not run if only some are.
  const honorDependencies = options.id === undefined
  const verdict = id => VERDICTS[suite.determine(suite.groups, id, results, honorDependencies)[2]]
  return chosen.flatMap(group => group.tests.map(test => {
    const judged = { id: test.id, group: group.id, kind: test.kind ?? 'required', verdict: verdict(test.id) }
    const blockers = (test.depends_on ?? []).filter(id => !['pass', 'yes'].includes(verdict(id)))
    const [error, message] = results[test.id] === true ? ['', 'passed'] : results[test.id] ?? ['', 'not run']
    const own = ['Assertion', 'Setup', ''].includes(error) ? message : `${error}: ${message}`
    return { ...judged, reason: judged.verdict === 'dependency' ? `needs ${blockers.join(', ')}` : own }
  }))
}

function passed ({ verdict }) {
  return verdict === 'pass' || verdict === 'yes'
}

function open ({ verdict }) {
  return verdict === 'dependency' || verdict === 'untested'
}

function failed (test) {
  return !passed(test) && !open(test)
}

function failedRequired (test) {
  return test.kind === 'required' && failed(test) && !differences.has(test.id)
}

function table (tests) {
  const cells = of => KINDS.map(kind => {
    const mine = of.filter(test => test.kind === kind)
    const counts = [mine.filter(passed).length, mine.filter(failed).length, mine.filter(open).length]
    return counts.map(count => String(count || '.').padStart(6)).join('')
  }).join('  ')
  const line = (name, of) => console.log(name.padEnd(20) + cells(of))
  console.log(''.padEnd(20) + KINDS.map(kind => kind.padStart(18)).join('  '))
  console.log('group'.padEnd(20) + ['pass', 'pass', 'yes'].map((yes, i) =>
    [yes, i === 2 ? 'no' : 'fail', 'open'].map(word => word.padStart(6)).join('')).join('  '))
  new Set(tests.map(test => test.group)).forEach(group => line(group, tests.filter(test => test.group === group)))
  line('all', tests)
  console.log('open: not judged, because a test that it depends on did not pass\n')
}

function report (tests, optimalMin) {
  const required = tests.filter(test => test.kind === 'required')
  const optimal = tests.filter(test => test.kind === 'optimal')
  const list = (word, of) => of.forEach(test => {
    const why = ['setup', 'retry', 'harness'].includes(test.verdict) ? `(${test.verdict}) ` : ''
    console.log(`${word}  ${test.kind} ${test.id}: ${why}${test.reason}`)
  })
  list('open', [...required, ...optimal].filter(open))
  list('miss', optimal.filter(failed))
  const known = required.filter(test => failed(test) && differences.has(test.id))
  list('FAIL', required.filter(failedRequired))
  known.forEach(test => console.log(`ok    required ${test.id} is known to fail: ${differences.get(test.id)}`))
  const gone = required.filter(test => passed(test) && differences.has(test.id))
  gone.forEach(test => console.log(`FAIL  required ${test.id}: passes, so it must not stand among the differences`))
  const unknown = [...differences.keys()].filter(id => !required.some(test => test.id === id))
  unknown.forEach(id => console.log(`FAIL  ${id}: stands among the differences, but there is no such required test`))
  if (!required.some(failedRequired)) {
    const count = required.filter(passed).length
    console.log(`ok    no other required test failed: of ${required.length}, ${count} passed and ${required.filter(open).length} are open`)
  }
  const count = optimal.filter(passed).length
  console.log(`${count >= optimalMin ? 'ok  ' : 'FAIL'}  at least ${optimalMin} of ${optimal.length} optimal tests pass: ${count}`)
}
