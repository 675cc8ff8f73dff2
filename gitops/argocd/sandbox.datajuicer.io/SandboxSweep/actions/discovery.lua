-- SPDX-License-Identifier: Apache-2.0
-- What can be done with a sweep now; all of it edits its spec, as anyone with kubectl could.
local is_over = obj.status ~= nil and obj.status.completionTime ~= nil
local is_suspended = obj.spec.suspend == true

local actions = {}
actions["suspend"] = {
  disabled = is_over or is_suspended,
  displayName = "Suspend, its trials too",
  iconClass = "fa fa-fw fa-pause"
}
actions["resume"] = {
  disabled = not is_suspended,
  displayName = "Resume",
  iconClass = "fa fa-fw fa-play"
}
return actions
