-- POSTs of log-batch, for wrk. Every point is new, and a body takes microseconds to make: all of it but values, times and steps
-- is made before. SIZE metrics of 20 names; RUNS are logged to in turn.
local runs, values, parts, places = {}, {}, {}, {}
local size, count = tonumber(os.getenv("SIZE")), 0
local keys = math.min(size, 20)
local headers = {["Content-Type"] = "application/json", ["Authorization"] = "Bearer " .. os.getenv("TOKEN")}

function init()
  for id in os.getenv("RUNS"):gmatch("%S+") do runs[#runs + 1] = id end
  math.randomseed(os.time())
  for i = 1, 997 do values[i] = string.format("%.17g", math.random()) end
  for i = 0, size - 1 do
    local at = 7 * i
    parts[at + 1] = (i == 0 and '","metrics":[' or ",") .. '{"key":"metric_' .. i % keys .. '","value":'
    parts[at + 3], parts[at + 5], parts[at + 7] = ',"timestamp":', ',"step":', "}"
    places[i] = at + 2
  end
end

function request()
  local first = os.time() * 1000
  for i = 0, size - 1 do
    local at, step = places[i], count * (size / keys) + math.floor(i / keys)
    parts[at], parts[at + 2], parts[at + 4] = values[(count * 7 + i) % 997 + 1], first, step
  end
  local body = '{"run_id":"' .. runs[count % #runs + 1] .. table.concat(parts) .. "]}"
  count = count + 1
  return wrk.format("POST", "/api/2.0/mlflow/runs/log-batch", headers, body)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('\n{"answers": %d, "seconds": %f, "p50": %f, "p99": %f, "failed": %d}\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
