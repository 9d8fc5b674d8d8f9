-- Cached and static routes, each request from an address of its visitor's own, for wrk. hits.js has the same ones.
local paths = {
  '/api/v1/media', '/api/v1/media/search?q=quiet+harbour', '/api/v1/products/search?q=oak+desk',
  '/api/v1/products/00000000-0000-7000-8000-000000000007', '/api/v1/workflows?category=design',
  '/api/v1/workflows/00000000-0000-7000-8000-000000000003', '/bytes/1000', '/bytes/16000',
}
-- Within the 100 requests a minute that an address may make.
local visit, count = 50, 0

function request()
  count = count + 1
  local visitor = math.floor(count / visit)
  local address = string.format('10.%d.%d.%d', math.floor(visitor / 65536) % 256, math.floor(visitor / 256) % 256, visitor % 256)
  return wrk.format('GET', paths[count % #paths + 1], { ['X-Forwarded-For'] = address, ['Accept-Encoding'] = 'gzip' })
end

-- One line of JSON at the end: what wrk prints for people is rounded.
function done(summary, latency)
  local e = summary.errors
  local of = function(percent) return latency:percentile(percent) / 1000 end
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.3f, "failed": %d, "p50": %.3f, "p95": %.3f, "p99": %.3f}\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout, of(50), of(95), of(99)))
end
