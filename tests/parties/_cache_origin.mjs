// Starts the origin of the suite of HTTP caching, on a free port of the loopback interface in place of the one that it
// would take on all, and says on descriptor 3 where that is.
//
//   node _cache_origin.mjs SERVER

import { writeSync } from 'node:fs'
import { Server } from 'node:net'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const { listen } = Server.prototype
Server.prototype.listen = function () {
  return listen.call(this, 0, '127.0.0.1', () => writeSync(3, `127.0.0.1:${this.address().port}\n`))
}
// It reads its settings from where npm would leave them; the port stands in no address that it sends.
Object.assign(process.env, { npm_config_protocol: 'http', npm_config_port: '80', npm_config_pidfile: '/dev/null' })
await import(pathToFileURL(resolve(process.argv[2])))
