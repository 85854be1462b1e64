-- What wrk sends, and its figures as one line of JSON at the end.
wrk.method = "POST"
wrk.body = '{"name":"World","n":1}'
wrk.headers["Content-Type"] = "application/json"

function init(args)
  if args[1] then wrk.body = args[1] end
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format('{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"failures":%d}\n', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.status + e.timeout))
end
