{{- define "aiops.name" -}}{{ .Release.Name | trunc 63 | trimSuffix "-" }}{{- end }}
{{- define "aiops.account" -}}{{ .Values.serviceAccount.name | default (include "aiops.name" .) }}{{- end }}
{{- define "aiops.selector" -}}
app.kubernetes.io/name: aiops
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "aiops.labels" -}}
{{ include "aiops.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
