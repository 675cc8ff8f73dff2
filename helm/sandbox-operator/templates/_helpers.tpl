{{- define "sandbox-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "sandbox-operator.fullname" -}}
{{- $name := include "sandbox-operator.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "sandbox-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sandbox-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "sandbox-operator.labels" -}}
{{ include "sandbox-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "sandbox-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "sandbox-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is empty: with serviceAccount.create=false, name the service account to use" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Name of the Service for progress, and of the EndpointSlice that says who is behind it. */}}
{{- define "sandbox-operator.progress" -}}
{{- printf "%s-progress" (include "sandbox-operator.fullname" .) -}}
{{- end -}}

{{- define "sandbox-operator.image" -}}
{{- required "image is empty: give the operator's image as a full reference, e.g. --set image=registry.example.com/sandbox-operator:0.1.0 (`make images` builds, pushes and prints it)" .Values.image -}}
{{- end -}}

{{/* Pod Security "restricted", and nothing to write on. */}}
{{- define "sandbox-operator.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "sandbox-operator.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The operator's rights, the same in a ClusterRole and in a Role. It never reads secrets or logs, and deletes no claim. */}}
{{- define "sandbox-operator.rules" -}}
- apiGroups: [sandbox.datajuicer.io]
  resources: [sandboxexperiments, sandboxhooks, sandboxsweeps]
  verbs: [get, list, watch]
# A sweep's trials are experiments that it makes, suspends and stops.
- apiGroups: [sandbox.datajuicer.io]
  resources: [sandboxexperiments]
  verbs: [create, patch]
- apiGroups: [sandbox.datajuicer.io]
  resources: [sandboxexperiments/status, sandboxsweeps/status]
  verbs: [update]
- apiGroups: [sandbox.datajuicer.io]
  resources: [sandboxhooks/status]
  verbs: [patch]
# Owner references that block deletion need this where OwnerReferencesPermissionEnforcement is on (OpenShift).
- apiGroups: [sandbox.datajuicer.io]
  resources: [sandboxexperiments/finalizers, sandboxsweeps/finalizers]
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete, deletecollection]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
# Contracts too large for an environment variable travel in a ConfigMap of their own.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create]
# One headless Service an experiment whose jobs have several pods that work as one.
- apiGroups: [""]
  resources: [services]
  verbs: [get, create]
- apiGroups: [""]
  resources: [events]
  verbs: [list, watch, create]
{{- end -}}
