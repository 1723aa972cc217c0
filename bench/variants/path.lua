-- /t/acme/api/tasks is acme's, and its service sees /api/tasks.
local tenancy = require("bench.variants.tenants")

function envoy_on_request(handle)
  local headers = handle:headers()
  local name, rest = string.match(headers:get(":path"), "^/t/([%w._-]+)(.*)$")
  local tenant = tenancy.find(handle, name)
  if tenant then
    tenancy.forward(headers, tenant)
    headers:replace("x-forwarded-prefix", "/t/" .. name)
    headers:replace(":path", string.sub(rest, 1, 1) == "/" and rest or "/" .. rest)
  end
end
