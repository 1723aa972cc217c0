-- What the scripts beside this one share: the tenants, the headers that a service gets, and how a request is refused.
local M = {}

M.tenants = {
  acme = {id = "acme", plan = "pro"},
  globex = {id = "globex", plan = "free", suspended = true},
  hooli = {id = "hooli", plan = "enterprise"},
  initech = {id = "initech", plan = "free"},
  stark = {id = "stark", plan = "pro"},
  tyrell = {id = "tyrell", plan = "free"},
  umbrella = {id = "umbrella", plan = "blocked"},
  wayne = {id = "wayne", plan = "enterprise"},
}

function M.refuse(handle, status, code, message, details)
  handle:respond(
    {[":status"] = status, ["content-type"] = "application/json", ["cache-control"] = "no-store"},
    '{"error":{"code":"' .. code .. '","message":"' .. message .. '","details":' .. details .. "}}"
  )
end

-- Finds the tenant of that name; nil where the request has been refused.
function M.find(handle, name)
  if name == nil or name == "" then
    M.refuse(handle, "404", "TENANT_NOT_FOUND", "The request names no tenant", "{}")
    return nil
  end
  local tenant = M.tenants[name]
  if tenant == nil then
    M.refuse(handle, "404", "TENANT_NOT_FOUND", "Tenant '" .. name .. "' not found", '{"tenantId":"' .. name .. '"}')
    return nil
  end
  if tenant.suspended then
    M.refuse(handle, "403", "TENANT_SUSPENDED", "Tenant '" .. tenant.id .. "' is suspended", '{"tenantId":"' .. tenant.id .. '"}')
    return nil
  end
  return tenant
end

-- Replaces whatever the client has sent of them.
function M.forward(headers, tenant)
  headers:replace("x-tenant-id", tenant.id)
  headers:replace("x-tenant-plan", tenant.plan)
  headers:replace("x-tenant-isolation", "shared")
end

-- The tenant's label of a host under the base domain.
function M.subdomain(headers)
  return string.match(string.lower(headers:get(":authority")), "^([a-z0-9-]+)%.app%.example%.com$")
end

return M
