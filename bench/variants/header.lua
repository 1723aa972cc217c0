local tenancy = require("bench.variants.tenants")

function envoy_on_request(handle)
  local headers = handle:headers()
  local tenant = tenancy.find(handle, headers:get("x-tenant-id"))
  if tenant then
    tenancy.forward(headers, tenant)
  end
end
