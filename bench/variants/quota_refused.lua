-- What a script must do to refuse as the filter does; that nothing is left of this plan's quota it has from its table.
local tenancy = require("bench.variants.tenants")

function envoy_on_request(handle)
  local headers = handle:headers()
  local tenant = tenancy.find(handle, tenancy.subdomain(headers))
  if tenant == nil then
    return
  end
  if tenant.plan == "blocked" then
    local now = os.time()
    local reset = now - now % 86400 + 86400
    local left = tostring(reset - now)
    handle:respond(
      {
        [":status"] = "429",
        ["content-type"] = "application/json",
        ["cache-control"] = "no-store",
        ["retry-after"] = left,
        ["ratelimit-policy"] = '"apiRequests";q=0;w=86400',
        ["ratelimit"] = '"apiRequests";r=0;t=' .. left,
      },
      '{"error":{"code":"QUOTA_EXCEEDED","message":"Tenant \'' .. tenant.id .. "' has used up its quota 'apiRequests'\""
        .. ',"details":{"tenantId":"' .. tenant.id .. '","quotaKey":"apiRequests","limit":0,"usage":0,"resetsAt":"'
        .. os.date("!%Y-%m-%dT%H:%M:%SZ", reset) .. '"}}}'
    )
    return
  end
  tenancy.forward(headers, tenant)
end
