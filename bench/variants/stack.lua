-- jwt_authn has verified the token, and left its claim in a header.
local tenancy = require("bench.variants.tenants")

function envoy_on_request(handle)
  local headers = handle:headers()
  local tenant = tenancy.find(handle, headers:get("x-claim-tenant"))
  if tenant == nil then
    return
  end
  headers:remove("x-claim-tenant")
  local host = tenancy.subdomain(headers)
  if host and host ~= tenant.id then
    tenancy.refuse(handle, "403", "TENANT_MISMATCH", "The request names different tenants", "{}")
    return
  end
  tenancy.forward(headers, tenant)
end
