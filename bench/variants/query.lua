local tenancy = require("bench.variants.tenants")

function envoy_on_request(handle)
  local headers = handle:headers()
  local name = string.match(headers:get(":path"), "[?&]tenant=([^&#]*)")
  local tenant = tenancy.find(handle, name)
  if tenant then
    tenancy.forward(headers, tenant)
  end
end
