-- SPDX-License-Identifier: Apache-2.0
obj.spec.suspend = false
return obj
