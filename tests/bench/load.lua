-- wrk -s load.lua URL -- FILE: sends the same request over and over; FILE holds its headers, an empty line and its body.
-- The last line of the output is the result as JSON.
function init(args)
   local file = assert(io.open(args[1], "rb"))
   wrk.method = "POST"
   for line in file:lines() do
      if line == "" then break end
      local name, value = line:match("^([^:]+): (.*)$")
      wrk.headers[name] = value
   end
   wrk.body = file:read("*a")
   file:close()
end

function done(summary, latency)
   local e = summary.errors
   io.write(string.format(
      '{"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50_ms":%.3f,"p99_ms":%.3f}\n',
      summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
