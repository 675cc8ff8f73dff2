-- SPDX-License-Identifier: Apache-2.0
-- What can be done with an experiment now; all of it edits its spec, as anyone with kubectl could.
local status = obj.status or {}
local is_over = status.completionTime ~= nil
local is_suspended = obj.spec.suspend == true

local actions = {}
actions["retry"] = {
  disabled = not (is_over and status.startTime ~= nil and status.outcome ~= "Succeeded"),
  displayName = "Retry what failed or was skipped",
  iconClass = "fa fa-fw fa-redo"
}
actions["suspend"] = {
  disabled = is_over or is_suspended,
  displayName = "Suspend",
  iconClass = "fa fa-fw fa-pause"
}
actions["resume"] = {
  disabled = not is_suspended,
  displayName = "Resume",
  iconClass = "fa fa-fw fa-play"
}
return actions
