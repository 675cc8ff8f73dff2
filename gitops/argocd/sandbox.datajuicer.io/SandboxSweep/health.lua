-- SPDX-License-Identifier: Apache-2.0
-- The health of a sweep, from its conditions; its trials are told by it. Argo CD's interpreter (Lua 5.1) has no string
-- library here.
local health = { status = "Progressing", message = "Waiting for the operator to see it" }

if obj.metadata.deletionTimestamp ~= nil then
  health.message = "Being deleted"
  return health
end
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end
if status.observedGeneration ~= obj.metadata.generation then
  health.message = "Waiting for the operator to see its newest spec"
  return health
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local function is(kind, truth)
  return conditions[kind] ~= nil and conditions[kind].status == truth
end

health.message = ""
if conditions.Ready ~= nil then
  health.message = conditions.Ready.message
end
if is("Stalled", "True") then -- it has failed, or nothing goes on until a person does something
  health.status = "Degraded"
elseif is("Ready", "True") then
  health.status = "Healthy"
elseif is("Suspended", "True") then
  health.status = "Suspended"
elseif status.progress ~= nil then
  health.message = status.progress .. " trials ended; " .. health.message
end
return health
