local tenancy = require("bench.variants.tenants")

function envoy_on_request(handle)
  local headers = handle:headers()
  local tenant = tenancy.find(handle, tenancy.subdomain(headers))
  if tenant then
    tenancy.forward(headers, tenant)
  end
end
