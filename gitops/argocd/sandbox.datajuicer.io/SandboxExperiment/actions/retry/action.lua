-- SPDX-License-Identifier: Apache-2.0
-- Runs what failed or was skipped again, by a token that was not used before: the number after the highest one, or, where
-- tokens are other texts than small whole numbers, the time. (Of the standard libraries only the base one, `table` and, by
-- require, `os` are there.)
local os = require("os")

local function number_in(token)
  if token == nil then
    return 0
  end
  local number = tonumber(token)
  if number == nil or number % 1 ~= 0 or number < 0 or number >= 1e13 then
    return nil
  end
  return number
end

local asked = number_in((obj.spec.rerun or {}).token)
local seen = number_in((obj.status or {}).rerunToken)
local token = os.time()
if asked ~= nil and seen ~= nil then
  token = asked + 1
  if seen > asked then
    token = seen + 1
  end
end
obj.spec.rerun = { token = tostring(token) }
obj.spec.stop = nil
return obj
