-- What an access log can tell of a request, a script leaves in dynamic metadata.
local tenancy = require("bench.variants.tenants")

function envoy_on_request(handle)
  local headers = handle:headers()
  local tenant = tenancy.find(handle, tenancy.subdomain(headers))
  if tenant then
    tenancy.forward(headers, tenant)
    local metadata = handle:streamInfo():dynamicMetadata()
    metadata:set("tenancy", "tenant_id", tenant.id)
    metadata:set("tenancy", "tenant_plan", tenant.plan)
    metadata:set("tenancy", "tenant_decision", "allow")
  end
end
