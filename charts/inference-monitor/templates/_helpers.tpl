{{/* Name of everything in this release, and the prefix of what has a name of its own. 50 leaves room for suffixes in 63. */}}
{{- define "inference-monitor.fullname" -}}
{{- $name := "inference-monitor" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "inference-monitor.operator" -}}
{{ include "inference-monitor.fullname" . }}-operator
{{- end }}

{{- define "inference-monitor.nodeDaemon" -}}
{{ include "inference-monitor.fullname" . }}-node-daemon
{{- end }}

{{/* Service in front of the metrics API; the serving certificate carries this name. */}}
{{- define "inference-monitor.metricsService" -}}
{{ include "inference-monitor.fullname" . }}
{{- end }}

{{/* Headless Service that the daemons resolve to every ready operator replica. */}}
{{- define "inference-monitor.linkService" -}}
{{ include "inference-monitor.fullname" . }}-link
{{- end }}

{{- define "inference-monitor.lease" -}}
{{ include "inference-monitor.operator" . }}
{{- end }}

{{- define "inference-monitor.certificateSecret" -}}
{{ include "inference-monitor.fullname" . }}-certificates
{{- end }}

{{- define "inference-monitor.caConfigMap" -}}
{{ include "inference-monitor.certificateSecret" . }}-ca
{{- end }}

{{/* Names of the APIServices, as a JSON list. */}}
{{- define "inference-monitor.apiServices" -}}
{{- if .Values.metricsApi.custom.enabled -}}
["v1beta1.custom.metrics.k8s.io","v1beta2.custom.metrics.k8s.io"]
{{- else -}}
[]
{{- end -}}
{{- end }}

{{/* Names of the metrics that the operator serves, as a JSON list. */}}
{{- define "inference-monitor.metricNames" -}}
["queue-depth","running-requests","in-flight-requests","kv-cache-usage","time-to-first-token-p95-seconds","tokens-per-second","throttled-gpus"]
{{- end }}

{{/* The metrics as RBAC resources of custom.metrics.k8s.io. RBAC has no wildcard for "every subresource of this resource", so they are
     written out. */}}
{{- define "inference-monitor.metricResources" -}}
{{- range include "inference-monitor.metricNames" . | fromJsonArray }}
- inferencemonitors.inferencemonitor.io/{{ . }}
{{- end }}
{{- end }}

{{/* Labels. Dict: root, component. */}}
{{- define "inference-monitor.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: inference-monitor
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: inference-monitor
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "inference-monitor.operatorSelector" -}}
app.kubernetes.io/name: inference-monitor
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end }}

{{/* Labels that the operator gives every node daemon pod. */}}
{{- define "inference-monitor.nodeDaemonSelector" -}}
app.kubernetes.io/name: inference-monitor
app.kubernetes.io/component: node-daemon
{{- end }}

{{/* Image reference. Dict: root, image. */}}
{{- define "inference-monitor.image" -}}
{{- with .root.Values.imageRegistry }}{{ . | trimSuffix "/" }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- end }}

{{/* The node profiles with every field filled in, and their names checked to be unique. */}}
{{- define "inference-monitor.nodeProfiles" -}}
{{- $names := list -}}
{{- range .Values.nodeProfiles }}
{{- if has .name $names }}
{{- fail (printf "\n\nnodeProfiles: two profiles are called %q. Each needs a name of its own: it is part of the name of its DaemonSet." .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- $access := .gpuAccess | default dict }}
- name: {{ .name | quote }}
  nodeSelector: {{ .nodeSelector | default dict | toJson }}
  tolerations: {{ if hasKey . "tolerations" }}{{ .tolerations | default list | toJson }}{{ else }}[{"key":"nvidia.com/gpu","operator":"Exists"}]{{ end }}
  gpuAccess:
    runtimeClass: {{ $access.runtimeClass | default "" | quote }}
    driverRoot: {{ $access.driverRoot | default "" | quote }}
    visibleDevices: {{ $access.visibleDevices | default "all" | quote }}
  podResources: {{ .podResources | default false }}
  kmsg: {{ .kmsg | default false }}
  hostMemory: {{ .hostMemory | default false }}
  hostPID: {{ .hostPID | default false }}
  priorityClassName: {{ .priorityClassName | default "" | quote }}
{{- end }}
{{- end }}
